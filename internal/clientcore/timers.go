package clientcore

// timers is a binary heap of operations by the time at which something is due for them. It is written out
// instead of using container/heap because each operation passes through it twice.
type timers []*op

func (t timers) first() *op {
	if len(t) == 0 {
		return nil
	}
	return t[0]
}

// set adds o, or moves it, to the time when.
func (t *timers) set(o *op, when Instant) {
	if o.slot < 0 {
		o.when, o.slot = when, len(*t)
		*t = append(*t, o)
		t.up(o.slot)
		return
	}
	earlier := when < o.when
	o.when = when
	if earlier {
		t.up(o.slot)
	} else {
		t.down(o.slot)
	}
}

// remove takes o out, if it is in.
func (t *timers) remove(o *op) {
	i := o.slot
	if i < 0 {
		return
	}
	last := len(*t) - 1
	moved := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	o.slot = -1
	if i == last {
		return
	}
	(*t)[i], moved.slot = moved, i
	t.up(i)
	t.down(moved.slot)
}

// less breaks ties by age, so that the order does not depend on the heap's shape.
func (t timers) less(a, b *op) bool {
	return a.when < b.when || a.when == b.when && a.id < b.id
}

func (t timers) up(i int) {
	o := t[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.less(o, t[parent]) {
			break
		}
		t[i] = t[parent]
		t[i].slot = i
		i = parent
	}
	t[i], o.slot = o, i
}

func (t timers) down(i int) {
	o := t[i]
	for {
		child := 2*i + 1
		if child >= len(t) {
			break
		}
		if child+1 < len(t) && t.less(t[child+1], t[child]) {
			child++
		}
		if !t.less(t[child], o) {
			break
		}
		t[i] = t[child]
		t[i].slot = i
		i = child
	}
	t[i], o.slot = o, i
}
