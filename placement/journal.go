package placement

import (
	"errors"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// job is one change of the records. Jobs run one at a time in the order they came: each is prepared when
// its turn comes, on the state that the ones before it left.
type job struct {
	// prepare decides the mutations. An error ends the job alone; no mutations: there is nothing to write.
	prepare func() ([]*locuspb.Mutation, error)
	// commit takes the change into memory, once it is durable. May be nil.
	commit func()
	// done tells whoever asked; called after commit, outside the lock. May be nil.
	done func(error)
}

// enqueue adds a job; a full queue refuses it.
func (d *core) enqueue(j job) {
	if len(d.jobs) >= maxJobs {
		d.finish(j, &api.OverloadedError{What: "placement driver", RetryAfter: d.o.HurryInterval})
		return
	}
	d.jobs = append(d.jobs, j)
	d.pump()
}

// pump starts the next write if none is under way.
func (d *core) pump() {
	for !d.writing && len(d.jobs) > 0 && d.phase == serving {
		j := d.jobs[0]
		d.jobs[0] = job{}
		d.jobs = d.jobs[1:]
		mutations, err := j.prepare()
		if err == nil && len(mutations) > 0 {
			d.writes = &j
			d.write(mutations, d.written)
			continue
		}
		if err == nil && j.commit != nil {
			j.commit()
		}
		d.finish(j, err)
	}
}

// write sends mutations under the condition that this is still the newest term of office. Whoever took
// office since has raised the number, and this write is refused as a whole.
func (d *core) write(mutations []*locuspb.Mutation, then func(error)) {
	d.writing = true
	w := &locuspb.WriteRequest{Mutations: mutations, Conditions: []*locuspb.Condition{d.inOffice()}}
	d.effect(func() {
		d.o.Records.Write(w, func(err error) {
			d.locked(func() {
				d.writing = false
				if d.phase != lost {
					then(err)
				}
			})
		})
	})
}

// inOffice is the condition that guards every write.
func (d *core) inOffice() *locuspb.Condition {
	return &locuspb.Condition{Key: recordKey(keyOffice), Kind: locuspb.Condition_VALUE, Value: number(d.cat.office)}
}

// written ends the job whose write was under way. One that the office did not outlive was told so when it ended.
func (d *core) written(err error) {
	j := *d.writes
	d.writes = nil
	switch {
	case err == nil:
		if j.commit != nil {
			j.commit()
		}
		d.finish(j, nil)
	case harmless(err):
		d.finish(j, err)
	default:
		d.finish(j, err)
		d.lose(err)
	}
	d.pump()
}

// harmless errors mean that nothing was written. After any other the records may be ahead of memory, and
// the cheapest way to know them again is a new term of office.
func harmless(err error) bool {
	var overloaded *api.OverloadedError
	var unavailable *api.UnavailableError
	return errors.As(err, &overloaded) || errors.As(err, &unavailable)
}

func (d *core) finish(j job, err error) {
	if j.done != nil {
		d.effect(func() { j.done(err) })
	}
}
