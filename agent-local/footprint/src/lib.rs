//! The only code that changes the laptop, and its journal.
