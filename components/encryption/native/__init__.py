"""SEAL by way of TenSEAL: its contexts, the bytes around its words, the child that may end in its place."""
