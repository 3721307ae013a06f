//! End-to-end tests of the built command against a local Alvys.
