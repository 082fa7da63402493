//! A real two-node Kubernetes on one machine.
