"""What wraps the key holder's secret keys: a file's key, an HSM, Google's KMS, Amazon's KMS."""
