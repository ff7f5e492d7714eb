//go:build !race && !locus_invariants

package invariant

// Enabled says whether costly checks run: under -race and under the build tag locus_invariants.
const Enabled = false
