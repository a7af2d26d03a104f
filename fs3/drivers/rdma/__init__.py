"""Payloads by RDMA beside a framed connection."""
