"""The paper's experiment: five methods on the same sites, splits and seeds, here or on Kubeflow."""
