//! What is said between hub, agents and laptops: messages, frames, grants, certificates. No sockets, no decisions.
