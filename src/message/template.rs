//! Values with variables.
