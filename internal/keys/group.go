package keys

import (
	"errors"
	"fmt"
)

// GroupRule says which prefix of a key names its group: the keys that are never split apart. The zero
// rule makes each key its own group.
type GroupRule struct {
	// Delimiter and Depth: the group is the prefix up to and including the Depth-th Delimiter.
	Delimiter byte
	Depth     int
	// Length: the group is the first Length bytes. Used when Depth is 0.
	Length int
}

// Of is the part of key that names its group: a prefix of key, not a copy. A key with fewer delimiters
// than Depth, or shorter than Length, is its own group.
func (g GroupRule) Of(key []byte) []byte {
	group, _ := g.split(key)
	return group
}

// OneGroup says whether all keys that begin with prefix are of one group. If not, prefix, taken as a key,
// is a group of its own.
func (g GroupRule) OneGroup(prefix []byte) bool {
	_, shared := g.split(prefix)
	return shared
}

// split finds the group of a key, and says whether it is shared with all keys that begin alike. The two
// kinds never meet, although both are named by bytes alone: the name of a shared group has exactly Depth
// delimiters or Length bytes, and a key that is its own group has fewer. So a key that equals such a name
// ("a/" where "a/b" is of the group "a/") is of the shared group.
func (g GroupRule) split(key []byte) (group []byte, shared bool) {
	switch {
	case g.Depth > 0:
		n := 0
		for i, b := range key {
			if b == g.Delimiter {
				if n++; n == g.Depth {
					return key[:i+1], true
				}
			}
		}
	case g.Length > 0 && len(key) >= g.Length:
		return key[:g.Length], true
	}
	return key, false
}

// Validate refuses a rule that names both forms or a negative number.
func (g GroupRule) Validate() error {
	if g.Depth < 0 || g.Length < 0 || g.Length > MaxKeyLen {
		return fmt.Errorf("keys: group depth %d and length %d must be between 0 and %d", g.Depth, g.Length, MaxKeyLen)
	}
	if g.Depth > 0 && g.Length > 0 {
		return errors.New("keys: a group rule has either a delimiter with a depth or a length, not both")
	}
	return nil
}
