package link

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var three = []string{"192.0.2.1:7444", "192.0.2.2:7444", "192.0.2.3:7444"}

func orderOf(seed uint64, addresses []string) *order {
	o := &order{rand: rand.New(rand.NewPCG(seed, 0))}
	o.set(addresses)
	return o
}

// A fleet is spread over its replicas, at first and after one died.
func TestBalance(t *testing.T) {
	first, then := make(map[string]int), make(map[string]int)
	for seed := range uint64(1000) {
		o := orderOf(seed, three)
		at := o.take()
		first[at]++
		if at == three[0] { // it dies
			at = o.take()
		}
		then[at]++
	}
	for _, a := range three {
		// 333 are expected, with a deviation of 15.
		if n := first[a]; n < 270 || n > 400 {
			t.Errorf("%d of 1000 at %s", n, a)
		}
	}
	if n := then[three[1]]; then[three[0]] > 0 || n < 430 || n > 570 {
		t.Errorf("after a death: %v", then)
	}
}

// In each round it is each one's turn once, and nobody's twice in a row.
func TestRounds(t *testing.T) {
	for seed := range uint64(200) {
		addresses := three[:1+seed%3]
		o, last := orderOf(seed, addresses), ""
		for range 5 {
			round := make(map[string]bool)
			for range addresses {
				at := o.take()
				if at == last && len(addresses) > 1 {
					t.Fatalf("seed %d: %s twice in a row", seed, at)
				}
				round[at], last = true, at
			}
			if len(round) != len(addresses) {
				t.Fatalf("seed %d: a round of %v", seed, slices.Collect(maps.Keys(round)))
			}
		}
	}
}

// What is looked up anew changes no turn of who is still there.
func TestOrderChanges(t *testing.T) {
	for seed := range uint64(200) {
		o := orderOf(seed, three)
		at := o.take()
		rest := slices.Clone(o.all[o.next:])
		others := slices.DeleteFunc(slices.Clone(three), func(a string) bool { return a == rest[0] })
		o.set(append(others, "192.0.2.4:7444"))
		if !slices.Contains(o.all[o.next:], "192.0.2.4:7444") || slices.Contains(o.all, rest[0]) {
			t.Fatalf("seed %d: turns %v after %s", seed, o.all[o.next:], at)
		}
		if next := []string{o.take(), o.take()}; !slices.Contains(next, rest[1]) {
			t.Fatalf("seed %d: %v, want %s among them", seed, next, rest[1])
		}
	}
}

// A round costs no time, the next one does, and more each time.
func TestPace(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for replicas := 1; replicas <= 3; replicas++ {
		var p pace
		least := minBackoff / 2
		for round := range 10 {
			for i := range replicas {
				pause := p.next(r, replicas, 0, false)
				if i < replicas-1 {
					if pause != 0 {
						t.Errorf("%d replicas, round %d: a pause of %s before replica %d", replicas, round, pause, i)
					}
					continue
				}
				if pause < least || pause > 3*least {
					t.Errorf("%d replicas, round %d: a pause of %s, want %s and more", replicas, round, pause, least)
				}
				least = min(2*least, maxBackoff/2)
			}
		}
		pause := p.next(r, replicas, time.Minute, false)
		if replicas > 1 && pause != 0 || replicas == 1 && pause > 3*minBackoff/2 {
			t.Errorf("%d replicas: a pause of %s after a good one", replicas, pause)
		}
		if pause := p.next(r, replicas, 0, true); pause < minBackoff/2 {
			t.Errorf("%d replicas: a pause of %s, want patience", replicas, pause)
		}
	}
}

// Replicas that grant and then fail at once do not make it run in circles.
func TestPaceOfFlapping(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p pace
	var total time.Duration
	for range 30 {
		total += p.next(r, 3, steady/2, false)
	}
	if total < 10*time.Second {
		t.Errorf("30 replicas that failed soon took %s", total)
	}
}
