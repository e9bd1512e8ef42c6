package waits

import (
	"testing"
	"time"
)

const bound = time.Second

// TestCheck: P2's bound. Each wait that was too long must be found, and what could
// not be kept is not asked for.
func TestCheck(t *testing.T) {
	t.Parallel()
	// Long ago, so that whatever began then is over.
	began := time.Now().Add(-time.Hour)
	at := func(d time.Duration) time.Time { return began.Add(d) }
	wait := func(took, elapsed time.Duration, asked ...int) Wait {
		return Wait{Asked: asked, Begin: began, Last: began, End: at(took), Elapsed: elapsed}
	}
	trouble := func(from, to time.Duration, hurts ...int) *Trouble {
		return &Trouble{Begin: at(from), End: at(to), Hurts: hurts}
	}
	const most = bound + 2*time.Millisecond + Allowance
	secondTry := wait(2*most, bound, 0, 1)
	secondTry.Last = at(most)
	lateSecond := secondTry
	lateSecond.Elapsed = most + 1
	for _, c := range []struct {
		name     string
		wait     Wait
		troubles []*Trouble
		longer   []stretch
		lags     []lag
		late     bool
	}{
		{name: "in time", wait: wait(most, most, 0)},
		{name: "late by the answer", wait: wait(most, most+1, 0), late: true},
		{name: "late here", wait: wait(most+1, bound, 0), late: true},
		{name: "asked another in vain", wait: secondTry, late: true},
		{name: "asked another that was hurt", wait: secondTry, troubles: []*Trouble{trouble(0, bound, 0)}},
		{name: "late by who answered", wait: lateSecond, troubles: []*Trouble{trouble(0, bound, 0)}, late: true},
		{name: "hurt", wait: wait(9*bound, 9*bound, 0), troubles: []*Trouble{trouble(bound, 2*bound, 0)}},
		{name: "hurt just before", wait: wait(9*bound, 9*bound, 0), troubles: []*Trouble{trouble(-2*bound, -bound, 0)}},
		{name: "hurt long before", wait: wait(9*bound, 9*bound, 0), troubles: []*Trouble{trouble(-9*bound, -8*bound, 0)}, late: true},
		{name: "hurt afterwards", wait: wait(2*bound, 2*bound, 0), troubles: []*Trouble{trouble(3*bound, 4*bound, 0)}, late: true},
		{name: "another was hurt", wait: wait(2*bound, 2*bound, 0), troubles: []*Trouble{trouble(0, bound, 1)}, late: true},
		{name: "a sidecar was hurt", wait: wait(2*bound, 2*bound, 0), troubles: []*Trouble{trouble(0, bound)}, late: true},
		{name: "no store", wait: wait(9*bound, 9*bound, 0), troubles: []*Trouble{{Begin: began, End: at(bound), Everybody: true}}},
		{name: "an election", wait: wait(most+Election, most+Election, 0), troubles: []*Trouble{{Begin: began, End: at(bound), Elects: true}}},
		{name: "a long election", wait: wait(most+Election, most+Election+1, 0), troubles: []*Trouble{{Begin: began, End: at(bound), Elects: true}}, late: true},
		{name: "a longer bound", wait: wait(3*bound, 3*bound, 0), longer: []stretch{{at(-bound), at(bound), 3 * bound}}},
		{name: "too late by that too", wait: wait(4*bound, 4*bound, 0), longer: []stretch{{at(-bound), at(bound), 3 * bound}}, late: true},
		{name: "a longer bound before", wait: wait(3*bound, 3*bound, 0), longer: []stretch{{at(-3 * bound), at(-bound), 3 * bound}}, late: true},
		{name: "a busy machine", wait: wait(most+80*time.Millisecond, bound, 0), lags: []lag{{at(bound), 20 * time.Millisecond}}},
		{name: "busy before", wait: wait(most+80*time.Millisecond, bound, 0), lags: []lag{{at(-bound), 20 * time.Millisecond}}, late: true},
	} {
		j := New(bound)
		j.troubles, j.longer, j.lags = c.troubles, c.longer, c.lags
		if got := j.Check(c.wait); (got != "") != c.late {
			t.Errorf("%s: %q, want late %v", c.name, got, c.late)
		}
	}
}

// What still goes on counts, and waits in it are not calm.
func TestTroubleGoesOn(t *testing.T) {
	t.Parallel()
	j, begin := New(bound), time.Now()
	before := Wait{Asked: []int{0}, Begin: begin, Last: begin, End: time.Now(), Elapsed: 9 * bound}
	if !j.Calm(before) || j.Check(before) == "" {
		t.Error("without trouble a wait is not calm, or not held to the bound")
	}
	trouble := &Trouble{Hurts: []int{0}}
	j.Began(trouble)
	meanwhile := before
	meanwhile.End = time.Now()
	if j.Calm(meanwhile) || j.Check(meanwhile) != "" {
		t.Error("trouble that goes on does not count")
	}
	j.Ended(trouble)
	if j.Calm(meanwhile) || j.Check(meanwhile) != "" {
		t.Error("trouble that is over does not count")
	}
}

// A longer bound counts for longer if whoever would lower it is lost.
func TestLonger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trouble *Trouble
		more    bool
	}{
		{&Trouble{}, false}, {&Trouble{Hurts: []int{0}, Elects: true}, false}, {&Trouble{Restarts: true}, true}, {&Trouble{Everybody: true}, true},
	} {
		j := New(bound)
		j.Longer(3 * bound)
		end := j.longer[0].end
		j.Began(c.trouble)
		j.Ended(c.trouble)
		if more := j.longer[0].end.After(end); more != c.more {
			t.Errorf("%+v: the bound counts for longer: %v, want %v", c.trouble, more, c.more)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	var all []Wait
	for i := range 100 {
		all = append(all, Wait{Begin: time.Unix(0, 0), End: time.Unix(0, int64(i+1)*int64(time.Millisecond))})
	}
	got := New(bound).Summary(all)
	if want := "100 waits without a fault: p50 50ms, p99 99ms, max 100ms"; got[0] != want || got[1] != "no waits with a fault" {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLags(t *testing.T) {
	t.Parallel()
	j, at := New(bound), time.Unix(1000, 0)
	j.noteLag(at, lagOver-1)
	j.noteLag(at, lagOver)
	j.noteLag(at.Add(2*remembered), lagOver)
	if len(j.lags) != 1 || !j.lags[0].at.Equal(at.Add(2*remembered)) {
		t.Errorf("remembered %v, want the last one", j.lags)
	}
}
