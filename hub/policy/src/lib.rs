//! Who may: pure decisions over Cedar policies.
