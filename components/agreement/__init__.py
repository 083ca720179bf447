"""What all parties compute alike: keys, ticket, commitment, roster, manifests, receipt."""
