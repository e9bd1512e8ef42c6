package mcp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/reeve-authz/reeve/sidecar/grant"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/message"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/rule"
	"github.com/reeve-authz/reeve/sidecar/internal/mcp/sight"
	"github.com/reeve-authz/reeve/sidecar/pdp"
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// get serves a stream that listens: to what the server has to say, or to the
// rest of an answer that broke off. The latter is decided anew.
func (x *exchange) get() outcome {
	if refused := x.checkSession(); refused != nil {
		return x.refuse(refused)
	}
	ctx := x.r.Context()
	tagged := x.r.Header.Get(message.HeaderEvent)
	if tagged == "" {
		return x.untilDrained(ctx, x.listen)
	}
	var ok bool
	x.stream, x.origin, x.event, ok = x.h.sessions.Resume(x.key, tagged)
	switch {
	case !ok:
		return x.refuse(&refusal{
			status: http.StatusBadRequest, code: message.CodeInvalidRequest,
			message: "Nothing can be resumed after this event.",
		})
	case x.origin.ID.IsZero():
		return x.untilDrained(ctx, x.listen)
	}
	x.session = x.origin.Session // the rest of an answer is in no other than its beginning
	if refused := x.authorize(ctx); refused != nil {
		return x.refuse(refused)
	}
	ctx, cancel := context.WithTimeout(ctx, x.h.config.CallTimeout)
	defer cancel()
	return x.forward(ctx, http.MethodGet, nil)
}

// listening reports whether the exchange waits for what the server has to say.
func (x *exchange) listening() bool { return x.r.Method == http.MethodGet && x.origin.ID.IsZero() }

// listen serves what the server has to say. Nothing passes while the sidecar is
// stale, but the agent's stream stays: clients take its end for the end of the
// session.
func (x *exchange) listen(ctx context.Context) outcome {
	told := false
	for {
		refused := x.authorize(ctx)
		if refused == nil {
			told = false
			if o := x.forward(ctx, http.MethodGet, nil); o != outcomeCut {
				return o
			}
			refused = x.authorize(ctx)
		}
		if refused != nil && x.permits[0].Decision.Reason != pdp.Stale {
			x.farewell(ctx, refused)
			return x.refuse(refused)
		}
		if !x.begun {
			x.begin()
			_ = x.write([]byte(":\n\n"), true) // if the agent has gone, ctx says so
		}
		if refused != nil && !told {
			x.tellWhy(refused)
			told = true
		}
		select {
		case <-ctx.Done():
			return outcomeCancelled
		case <-time.After(staleCheck):
		}
	}
}

// tellWhy says on a stream that listens, if it has begun, why nothing more is
// heard on it. What the protocol has for that is a message for the log; in the
// revision that deprecates those (2026-07-28, SEP-2577) every stream answers a
// request, and is told by the answer.
func (x *exchange) tellWhy(refused *refusal) {
	if x.begun {
		_ = x.write(eventOf(refused.notification()), true) // if the agent has gone, there is nobody to tell
	}
}

// lastWords is how long a stream that listens stays after its agent was told why
// nothing more is heard on it. Clients take its end for the end of the session,
// and of the calls in it whose answers they have not read yet.
const lastWords = time.Second

// farewell tells why a stream that listens ends, and returns when it may.
func (x *exchange) farewell(ctx context.Context, refused *refusal) {
	if !x.begun {
		return
	}
	x.tellWhy(refused)
	select {
	case <-ctx.Done():
	case <-time.After(lastWords):
	}
}

// errDraining ends streams that listen when the sidecar stops.
var errDraining = errors.New("the sidecar is stopping")

// untilDrained runs listen under a context that ends when the sidecar stops, and
// tells the agent meanwhile what changes of what it may see.
func (x *exchange) untilDrained(ctx context.Context, listen func(context.Context) outcome) outcome {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	// What is seen at first is noted before the stream begins: what changes from
	// then on is told.
	first := x.see()
	watching.Go(func() { x.watch(ctx, first) })
	watching.Go(func() {
		select {
		case <-x.h.draining:
			cancel(errDraining)
		case <-ctx.Done():
		}
	})
	return listen(ctx)
}

// settled is how long after a change the agent is told, so that many changes at once
// are one.
const settled = 100 * time.Millisecond

// A glance is what the agent may see of the server, by a view.
type glance struct {
	sight    sight.Sight
	snapshot *grant.Snapshot
	// live is whether the sidecar might act at all.
	live bool
}

func (x *exchange) see() glance {
	v := x.h.config.Views.View()
	g := glance{snapshot: v.Snapshot}
	at, live := v.At()
	if g.live = live; live {
		g.sight = sight.Of(v.Snapshot, x.server, x.session, at)
	}
	return g
}

// watch tells the agent, on a stream that listens, when it may see something else
// of the server than at first.
func (x *exchange) watch(ctx context.Context, first glance) {
	views := x.h.config.Views
	seen, snapshot := first.sight, first.snapshot
	for known := first.live; ; {
		v := views.View()
		if v.Snapshot == snapshot && known {
			at, _ := v.At()
			timer := time.NewTimer(seen.Left(at.Now))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-v.Replaced():
				timer.Stop()
				continue
			case <-timer.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settled):
		}
		v = views.View()
		at, live := v.At()
		// While nothing may be seen there is nothing to say.
		if live = live && pdp.Admit(v.Snapshot, pdp.Call{Server: x.server, Session: x.session}, at).Allow; !live {
			select {
			case <-ctx.Done():
				return
			case <-v.Replaced():
			}
			continue
		}
		now := sight.Of(v.Snapshot, x.server, x.session, at)
		if known {
			x.tellChanged(now.Differs(seen))
		}
		seen, snapshot, known = now, v.Snapshot, true
	}
}

// tellChanged says that lists of these kinds have changed, if the agent listens
// for that.
func (x *exchange) tellChanged(changed sight.Kinds) {
	x.writing.Lock()
	wanted := x.wanted
	x.writing.Unlock()
	for _, k := range sight.Words {
		if changed&wanted&k.Kind == 0 {
			continue
		}
		text := `{"jsonrpc":"2.0","method":"notifications/` + k.Word + `/list_changed"`
		if !x.origin.ID.IsZero() {
			text += `,"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":` + x.origin.ID.JSON() + `}}`
		}
		_ = x.write(eventOf([]byte(text+"}")), true) // if the agent has gone, there is nobody to tell
	}
}

// listens takes note, once the stream has begun, of what the agent is told on it.
func (x *exchange) listens(kinds sight.Kinds) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.wanted = kinds
}

// asked returns the kinds of lists whose changes a subscriptions/listen asks for.
func asked(params *strictjson.Object) (kinds sight.Kinds) {
	wanted, _ := params.Object("notifications")
	for _, k := range sight.Words {
		if v, _ := wanted.Get(k.Word + "ListChanged"); v == true {
			kinds |= k.Kind
		}
	}
	return kinds
}

// acknowledge returns the first message on a stream of subscriptions/listen, in
// which the server says what it will tell, with what the sidecar will tell beside
// it. From here on the agent is told.
func (x *exchange) acknowledge(text []byte) []byte {
	kinds := asked(x.origin.Params)
	m, err := message.Parse(text, strictjson.Limits{})
	if err == nil && x.origin.Method == rule.Listen {
		agreed, _ := m.Params.Object("notifications")
		for _, k := range sight.Words {
			if agreed != nil && kinds&k.Kind != 0 {
				agreed = message.Set(agreed, k.Word+"ListChanged", true)
			}
		}
		if agreed != nil {
			text = m.With("notifications", agreed).Append(nil)
		}
	}
	x.listens(kinds)
	return text
}

// claims returns what the answer must say of what the server can do, with what the
// sidecar does for it: it says when lists have changed. From 2026-07-28 on an agent
// hears that from subscriptions/listen, which not every server has.
func (x *exchange) claims(a *message.Answer) []message.Change {
	capabilities := a.Capabilities()
	begins := x.origin.Rule.Begins
	listened := begins
	var offers sight.Kinds
	for _, k := range sight.Words {
		o, ok := capabilities.Object(k.Word)
		if ok {
			offers |= k.Kind
		}
		changes, _ := o.Get("listChanged")
		updates, _ := o.Get("subscribe")
		listened = listened || changes == true || updates == true
	}
	if begins && capabilities != nil {
		x.h.sessions.Offer(x.key, offers)
	}
	claimed := capabilities
	for _, k := range sight.Words {
		o, _ := capabilities.Object(k.Word)
		if v, _ := o.Get("listChanged"); offers&k.Kind != 0 && listened && v != true {
			claimed = message.Set(claimed, k.Word, message.Set(o, "listChanged", true))
		}
	}
	if claimed == capabilities {
		return nil
	}
	return []message.Change{{Name: "capabilities", Value: strictjson.Append(nil, claimed)}}
}
