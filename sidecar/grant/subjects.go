package grant

import (
	"fmt"
	"regexp"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	maxSubjects    = 100
	maxMatchLabels = 16
	maxLabels      = 32
	maxLabelValue  = 63
)

var labelKey = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._/-]{0,61}[a-zA-Z0-9])?$`)

// ValidateSubjects reports what is wrong with the subjects of a grant that is
// about to be stored. The error wraps ErrInvalid.
func ValidateSubjects(sub *grantv1.Subjects) error {
	if len(sub.GetAgents()) == 0 && sub.GetSelector() == nil {
		return fmt.Errorf("subjects: %w: name at least one agent, or select agents by label", ErrInvalid)
	}
	if len(sub.GetAgents()) > maxSubjects {
		return fmt.Errorf("subjects.agents: %w: %d agents; at most %d are allowed, so select them by label", ErrInvalid, len(sub.GetAgents()), maxSubjects)
	}
	for i, id := range sub.GetAgents() {
		if !validID(id) {
			return fmt.Errorf("subjects.agents[%d]: %w: %q is not the id of an agent, such as support-triage", i, ErrInvalid, id)
		}
	}
	if sub.GetSelector() == nil {
		return nil
	}
	labels := sub.GetSelector().GetMatchLabels()
	if len(labels) == 0 || len(labels) > maxMatchLabels {
		return fmt.Errorf("subjects.selector.match_labels: %w: want 1 to %d labels", ErrInvalid, maxMatchLabels)
	}
	return checkLabels("subjects.selector.match_labels", labels)
}

// checkLabels reports the first of labels, by key, that is malformed.
func checkLabels(field string, labels map[string]string) error {
	for _, k := range sortedKeys(labels) {
		if !labelKey.MatchString(k) {
			return fmt.Errorf("%s[%q]: %w: a label's name has up to 63 of A-Z a-z 0-9 . _ / - and begins and ends with a letter or digit", field, k, ErrInvalid)
		}
		if len(labels[k]) > maxLabelValue {
			return fmt.Errorf("%s[%q]: %w: a label's value has at most %d bytes", field, k, ErrInvalid, maxLabelValue)
		}
	}
	return nil
}

// Covers reports whether sub selects the agent of this id and these labels.
// Both are of one namespace.
func Covers(sub *grantv1.Subjects, agentID string, labels map[string]string) bool {
	for _, id := range sub.GetAgents() {
		if id == agentID {
			return true
		}
	}
	match := sub.GetSelector().GetMatchLabels()
	for k, want := range match {
		if got, ok := labels[k]; !ok || got != want {
			return false
		}
	}
	return len(match) > 0
}
