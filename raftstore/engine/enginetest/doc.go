// Package enginetest says what every engine.Engine must do, as tests that each engine runs over itself.
//
// Run holds the rules one by one. Model runs long random sequences of batches, undos, reopenings and
// reads against a map of versions; it prints its seed and its length, and fails the same way again under
// them. Both touch an engine only through its interface.
package enginetest
