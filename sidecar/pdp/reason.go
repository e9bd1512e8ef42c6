package pdp

// A Reason is the stable word for why a call was allowed or denied. Words are
// never renamed: records and agents keep them.
type Reason uint8

// The reasons. Stale is the zero value, so that a decision nobody made denies.
const (
	Stale Reason = iota
	Granted
	NotGranted
	Forbidden
	ConditionFalse
	Expired
	NotYetValid
	Suspended
	UnknownTool
	UnknownServer
	Unavailable
	Malformed
	Overloaded
	Halted
	SessionRequired
	SessionEnded
	SessionClaimed
	LimitReached
	RateLimited
	DefinitionChanged
	ArgumentsInvalid
)

var words = [...]string{
	Stale:          "stale",
	Granted:        "granted",
	NotGranted:     "not_granted",
	Forbidden:      "forbidden",
	ConditionFalse: "condition_false",
	Expired:        "expired",
	NotYetValid:    "not_yet_valid",
	Suspended:      "suspended",
	UnknownTool:    "unknown_tool",
	UnknownServer:  "unknown_server",
	Unavailable:    "unavailable",
	Malformed:      "malformed",
	Overloaded:     "overloaded",
	Halted:         "halted",

	SessionRequired:   "session_required",
	SessionEnded:      "session_ended",
	SessionClaimed:    "session_claimed",
	LimitReached:      "limit_reached",
	RateLimited:       "rate_limited",
	DefinitionChanged: "definition_changed",
	ArgumentsInvalid:  "arguments_invalid",
}

// Reasons is how many there are.
const Reasons = Reason(len(words))

// String returns the word.
func (r Reason) String() string {
	if r < Reasons {
		return words[r]
	}
	return "unknown"
}
