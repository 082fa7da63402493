//! What the fairlead command, the daemon and the supervisor say to each other over Unix sockets.
