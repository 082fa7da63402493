//! How it is carried: dialling, carriers, streams, keepalive, backoff.
