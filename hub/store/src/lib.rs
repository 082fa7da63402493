//! What is remembered: every SQL statement, one file per noun.
