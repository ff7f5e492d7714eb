// Package boottime is a clock that nobody sets: it rises at a steady rate, also while the machine sleeps, and says
// nothing about the time of day. Leases are counted on it (rule D3).
package boottime
