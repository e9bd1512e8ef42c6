package resources

import (
	"fmt"
	"strings"
	"time"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

// Limits says in words how many calls may be made; empty is as many as one likes.
func Limits(l *grantv1.Limits) string {
	var parts []string
	if n := l.GetMaxCalls(); n > 0 {
		said := fmt.Sprintf("%d calls", n)
		if n == 1 {
			said = "1 call"
		}
		switch l.GetScope() {
		case grantv1.Limits_AGENT:
			said += " an agent"
		case grantv1.Limits_ALL:
			said += " for all"
		default:
		}
		parts = append(parts, said)
	}
	if r := l.GetRate(); r != nil {
		parts = append(parts, fmt.Sprintf("%d/%s", r.GetCalls(), per(r.GetPer().AsDuration())))
	}
	return strings.Join(parts, ", ")
}

// per is a length of time as it was likely written: 10s, 1m, 24h.
func per(d time.Duration) string {
	said := d.String()
	if d%time.Minute == 0 {
		said = strings.TrimSuffix(said, "0s")
	}
	if d%time.Hour == 0 {
		said = strings.TrimSuffix(said, "0m")
	}
	return said
}

// Requirement says in words what session a grant applies in; empty is any or none.
func Requirement(r *grantv1.SessionRequirement) string {
	if r == nil {
		return ""
	}
	var parts []string
	if p := r.GetPurposes(); len(p) > 0 {
		parts = append(parts, "for "+strings.Join(p, "|"))
	}
	if u := r.GetUsers(); len(u) > 0 {
		parts = append(parts, "of "+strings.Join(u, "|"))
	} else if r.GetAnyUser() {
		parts = append(parts, "of any user")
	}
	if r.GetSelfOpened() {
		parts = append(parts, "self-opened")
	}
	if len(parts) == 0 {
		return "any session"
	}
	return strings.Join(parts, ", ")
}
