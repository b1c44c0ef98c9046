//! One file for each detector, in alphabetical order.
