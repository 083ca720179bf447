"""The steps of a federated round and the domains they stand in."""
