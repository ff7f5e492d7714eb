package history

// saw is what an answered operation found in the register when it took effect.
func (o *Operation) saw() (Value, bool) {
	switch {
	case o.Output.Unknown:
	case o.Input.Kind == Get, o.Output.Failed:
		return o.Output.Value, true
	case o.Input.Kind == CompareAndSwap:
		return o.Input.Old, true
	}
	return Value{}, false
}

// unique says whether a value stands for one write, which is what reduce builds on.
func unique(ops []Operation) bool {
	written := make(map[Value]bool)
	for i := range ops {
		o := &ops[i]
		if o.Output.Failed || o.Input.Kind == Get || o.Input.Kind == Delete {
			continue
		}
		if v := o.Input.New; !v.Exists || written[v] {
			return false
		}
		written[o.Input.New] = true
	}
	return true
}

// reduce takes out of one key's history what makes the search for an order long, which is writes of unknown outcome: they
// never return, so each is concurrent with all that follows, and n of them have 2^n ways to have taken effect or not. What
// is left has an order exactly if the whole history has; legal is false if it is plain that it has none.
// REQUIRES: unique(ops); what is of unknown outcome returns at Never.
//
// An answered operation is a read (of what it found: a Get, a comparison that failed, and one that held), a write, or
// both. Nothing else about a register depends on what is in it but a comparison of unknown outcome. So:
//
//  1. A put or swap of unknown outcome whose value was found must have taken effect, and before the first who found it
//     returned, which is when it may be said to have returned. A swap was successful then, so its old value was found
//     too, no later than that, and so on back. The same cut is made of writes that were acknowledged.
//  2. A put or swap of unknown outcome whose value was not found is left out. If the history without it has an order, then
//     with it too: at the end of all, where a put is legal and so is a swap, whether or not it holds. If the history with
//     it has an order, take out of that order all of them. Nobody read what they wrote, neither who was answered nor,
//     by rule 1, a swap of unknown outcome that was found. So what follows each one up to the next write that stays reads
//     nothing, and finds no difference.
//  3. A delete of unknown outcome is left out if nobody found nothing and returned after its call: by the argument of
//     rule 2. Others stay, for what they write is no unique value; see search.
//  4. A read of unknown outcome says nothing.
//  5. A value that nobody wrote, or that was found before its write began, has no place in any order.
//
// It does not look at timestamps: that the order is theirs too is for CheckOrder to say, and registers are to be
// linearizable whatever timestamps say. Values that expire do not belong into such a history: they go without a write.
func reduce(ops []Operation) (reduced []Operation, legal bool) {
	r := findings{writers: make(map[Value]*Operation), until: make(map[Value]Instant)}
	for i := range ops {
		if o := &ops[i]; o.Input.New.Exists && !o.Output.Failed {
			r.writers[o.Input.New] = o
		}
	}
	for i := range ops {
		if v, ok := ops[i].saw(); ok {
			r.found(v, ops[i].Return)
		}
	}
	for v, until := range r.until {
		if w := r.writers[v]; w == nil || until < w.Call {
			return nil, false
		}
	}
	var deletes []Operation
	nothing := Instant(-1) // when the last who found nothing returned
	for _, o := range ops {
		if o.Output.Unknown && o.Input.Kind == Delete {
			deletes = append(deletes, o)
			continue
		}
		if !r.cut(&o) {
			continue
		}
		if v, ok := o.saw(); ok && !v.Exists {
			nothing = max(nothing, o.Return)
		}
		reduced = append(reduced, o)
	}
	for _, o := range deletes {
		if o.Call <= nothing {
			reduced = append(reduced, o)
		}
	}
	return reduced, true
}

// findings are who wrote a value, and when the first who found it had returned.
type findings struct {
	writers map[Value]*Operation
	until   map[Value]Instant
}

// found notes that v was in the register before t, and what follows from that.
func (r *findings) found(v Value, t Instant) {
	for v.Exists {
		if before, ok := r.until[v]; ok && before <= t {
			return
		}
		r.until[v] = t
		w := r.writers[v]
		if w == nil || w.Input.Kind != CompareAndSwap {
			return
		}
		v, t = w.Input.Old, min(t, w.Return)
	}
}

// cut applies the rules to an operation that is no delete of unknown outcome; it is false if that is left out.
func (r *findings) cut(o *Operation) bool {
	if until, ok := r.until[o.Input.New]; ok && !o.Output.Failed {
		o.Return = min(o.Return, until)
		o.Output.Unknown = false
	}
	return !o.Output.Unknown
}
