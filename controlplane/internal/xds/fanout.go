package xds

import "sync"

const (
	// fewAgents is how many agents a change may concern at the most to go before
	// changes that concern more.
	fewAgents = 64
	// manyEvery is every how many turns one goes to a change that concerns more,
	// however many there are that do not.
	manyEvery = 4
)

// A fanout wakes the streams of agents whose sets changed, one agent after
// another, while the next change is already being applied. An agent that has not
// had its turn when its set changes again has one turn for both changes: so
// changes that come faster than a fleet can be told of them are merged, and none
// ever waits to be merged. A change for a few does not wait for one for many, and
// changes for a few, however many, do not hold up one for many for good.
type fanout struct {
	wake func(agent string)

	mu        sync.Mutex
	few, many queue
	turns     int
	running   bool
	closed    bool
	runs      sync.WaitGroup
}

// A queue has each agent once.
type queue struct {
	agents []string
	in     map[string]struct{}
}

func newFanout(wake func(agent string)) *fanout {
	return &fanout{wake: wake, few: queue{in: make(map[string]struct{})}, many: queue{in: make(map[string]struct{})}}
}

// add has the agents woken, soon.
func (f *fanout) add(agents []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(agents) == 0 {
		return
	}
	q := &f.many
	if len(agents) <= fewAgents {
		q = &f.few
	}
	for _, agent := range agents {
		q.push(agent)
	}
	if !f.running {
		f.running = true
		f.runs.Go(f.run)
	}
}

// close ends it, whatever has not had its turn, and waits until it has ended.
func (f *fanout) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.runs.Wait()
}

func (f *fanout) run() {
	for {
		agent, ok := f.next()
		if !ok {
			return
		}
		f.wake(agent)
	}
}

func (f *fanout) next() (agent string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		first, second := &f.few, &f.many
		if f.turns++; f.turns%manyEvery == 0 {
			first, second = second, first
		}
		if agent, ok = first.pop(); ok {
			return agent, true
		}
		if agent, ok = second.pop(); ok {
			return agent, true
		}
	}
	f.running = false
	return "", false
}

func (q *queue) push(agent string) {
	if _, ok := q.in[agent]; !ok {
		q.in[agent] = struct{}{}
		q.agents = append(q.agents, agent)
	}
}

func (q *queue) pop() (agent string, ok bool) {
	if len(q.agents) == 0 {
		q.agents = nil // with the room that the popped ones took
		return "", false
	}
	agent, q.agents = q.agents[0], q.agents[1:]
	delete(q.in, agent)
	return agent, true
}
