package delays

// AddRecord is Add, as quick as AddBatch for the records that Value writes: for those who have records one by one.
func (a *Accumulator) AddRecord(key, value []byte) error {
	if len(value) >= minValue {
		if delay, odd := fixedDelay(value); odd == 0 {
			return a.Count(key, delay)
		}
	}
	return a.Add(key, value)
}

// Count counts one flight of the origin that a key begins with, whose delay the caller has found.
func (a *Accumulator) Count(key []byte, delay int) error {
	if delay < -MaxDelay || delay > MaxDelay {
		return Error("the delay of " + string(key) + " is beyond two years")
	}
	if n := len(a.lastOrigin); a.last != nil && len(key) > n && key[n] == '/' && string(key[:n]) == a.lastOrigin {
		a.last.count(delay, 1)
		return nil
	}
	origin, ok := originOf(key)
	if !ok {
		return Error("a key has no origin before a slash")
	}
	a.origin(origin).count(delay, 1)
	return nil
}
