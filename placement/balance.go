package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Balance by count. A move or transfer is begun only where it makes the fuller store's count at least as
// large as the emptier one's still is, so the sum of the squares of all counts falls with each, and
// balancing ends. Everything under way is counted as done, so two plans don't both fill the same gap.

// balanceReplicas begins moves from the fullest stores to the emptiest.
func (p *planner) balanceReplicas() {
	up := p.upStores()
	if len(up) < 2 {
		return
	}
	var byStore [][]*care // built when the first move is needed
	for p.moves < p.lim.Moves {
		slices.SortFunc(up, func(a, b int) int { return p.stores[a].compare(&p.stores[b]) })
		need := p.need(up, func(s *load) int { return s.replicas })
		if p.stores[up[len(up)-1]].replicas-p.stores[up[0]].replicas < need {
			return
		}
		if byStore == nil {
			byStore = p.rangesByStore()
		}
		if !p.beginMove(up, need, byStore) {
			return
		}
	}
}

// need is the smallest difference of two stores that is worth a move.
func (p *planner) need(up []int, of func(*load) int) int {
	sum := 0
	for _, i := range up {
		sum += of(&p.stores[i])
	}
	return max(2, sum*p.lim.TolerancePercent/(100*len(up)))
}

// beginMove finds the widest pair of stores with a range that can move, and adds the learner.
func (p *planner) beginMove(up []int, need int, byStore [][]*care) bool {
	for hi := len(up) - 1; hi > 0; hi-- {
		src := up[hi]
		for _, dst := range up[:hi] {
			if p.stores[src].replicas-p.stores[dst].replicas < need {
				break
			}
			c := p.pickMove(src, dst, byStore[src])
			if c == nil {
				continue
			}
			reason := fmt.Sprintf("balance: %d replicas on store %s, %d on store %s",
				p.stores[src].replicas, p.stores[src].ID, p.stores[dst].replicas, p.stores[dst].ID)
			p.moves++
			p.hosts(c, dst)
			p.add(src, -1)
			p.emit(c, addLearner(p.stores[dst].ID), reason)
			return true
		}
	}
	return false
}

// pickMove chooses the range that is cheapest to move from src to dst: not led by src if possible, small.
func (p *planner) pickMove(src, dst int, on []*care) *care {
	var best *care
	for _, c := range on {
		if !c.free || len(c.learners) > 0 || len(c.voters) != c.wanted || !c.allReady() || c.keeps(src) || !p.canHost(c, dst) {
			continue
		}
		if best == nil || p.cheaper(c, best, src) {
			best = c
		}
	}
	return best
}

func (p *planner) cheaper(a, b *care, src int) bool {
	if la, lb := a.leader == src, b.leader == src; la != lb {
		return lb
	}
	return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Desc.ID, b.Desc.ID)) < 0
}

// keeps says whether the range's voter on a store is not to be removed.
func (c *care) keeps(src int) bool {
	return slices.ContainsFunc(c.voters, func(m member) bool { return m.at == src && m.kept })
}

func (c *care) allReady() bool {
	for _, m := range c.voters {
		if !m.ready {
			return false
		}
	}
	return true
}

// rangesByStore lists the ranges with a voter on each store.
func (p *planner) rangesByStore() [][]*care {
	out := make([][]*care, len(p.stores))
	for i := range p.ranges {
		c := &p.ranges[i]
		for _, m := range c.voters {
			if m.at >= 0 {
				out[m.at] = append(out[m.at], c)
			}
		}
	}
	return out
}

func (p *planner) upStores() []int {
	var up []int
	for i := range p.stores {
		if p.stores[i].State == Up {
			up = append(up, i)
		}
	}
	return up
}

// balanceLeases evens out the counts of leases. A lease can go only where a voter is, so evening two stores
// may need a chain: a to b and b to c. Each chain is a shortest path from a store with many leases to one
// with at least two fewer, over edges "leads a range that has a caught-up voter there".
func (p *planner) balanceLeases() {
	up := slices.DeleteFunc(p.upStores(), func(i int) bool { return p.stores[i].ClockOff })
	if len(up) < 2 {
		return
	}
	need := p.need(up, func(s *load) int { return s.leases })
	byLeases := func(a, b int) int {
		return cmp.Or(cmp.Compare(p.stores[b].leases, p.stores[a].leases), cmp.Compare(a, b))
	}
	slices.SortFunc(up, byLeases)
	if p.stores[up[0]].leases-p.stores[up[len(up)-1]].leases < need {
		return
	}
	g := p.leaseGraph()
	for p.transfers < p.lim.Transfers {
		if !slices.ContainsFunc(up, func(src int) bool { return p.shiftLeases(g, src, need) }) {
			return
		}
		slices.SortFunc(up, byLeases)
	}
}

// leaseGraph finds for each pair of stores the ranges whose lease can go from the first to the second.
type leaseGraph struct {
	n     int
	edges [][]*care // n*n; a range is in as many lists as there are stores that may lead it
}

func (p *planner) leaseGraph() *leaseGraph {
	n := len(p.stores)
	g := &leaseGraph{n: n, edges: make([][]*care, n*n)}
	for i := range p.ranges {
		c := &p.ranges[i]
		if !c.free || c.LeaseHeld || len(c.learners) > 0 {
			continue
		}
		for _, m := range c.voters {
			if e := c.leader*n + m.at; m.leads && !m.leader && len(g.edges[e]) < p.lim.Transfers {
				g.edges[e] = append(g.edges[e], c)
			}
		}
	}
	return g
}

// edge is a range whose lease can go from one store to another; nil: there is none that is still free.
func (g *leaseGraph) edge(from, to int) *care {
	list := &g.edges[from*g.n+to]
	for len(*list) > 0 && !(*list)[0].free {
		*list = (*list)[1:]
	}
	if len(*list) == 0 {
		return nil
	}
	return (*list)[0]
}

// shiftLeases transfers leases along a shortest chain from src to the store with the fewest leases of those
// that chains reach, if it has at least `need` fewer.
func (p *planner) shiftLeases(g *leaseGraph, src, need int) bool {
	from := make([]int, g.n) // predecessor + 1
	from[src] = src + 1
	dst := src
	for queue := []int{src}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if p.stores[at].leases < p.stores[dst].leases {
			dst = at
		}
		for to := range g.n {
			if from[to] == 0 && g.edge(at, to) != nil {
				from[to] = at + 1
				queue = append(queue, to)
			}
		}
	}
	if p.stores[src].leases-p.stores[dst].leases < need {
		return false
	}
	p.shiftAlong(g, from, src, dst)
	return true
}

func (p *planner) shiftAlong(g *leaseGraph, from []int, src, dst int) {
	reason := fmt.Sprintf("balance: %d leases on store %s, %d on store %s",
		p.stores[src].leases, p.stores[src].ID, p.stores[dst].leases, p.stores[dst].ID)
	for at := dst; at != src; at = from[at] - 1 {
		p.transfer(g.edge(from[at]-1, at), at, reason)
	}
}
