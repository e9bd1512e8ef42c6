package output

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Duration returns a length of time in its largest unit or two, as people say
// it: 6.2s, 5m, 3h, 30d.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < 10*time.Second:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + "s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour-30*time.Second:
		return fmt.Sprintf("%.0fm", d.Minutes())
	case d < 10*time.Hour:
		d = d.Round(time.Minute)
		if minutes := int(d.Minutes()) % 60; minutes > 0 {
			return fmt.Sprintf("%dh%dm", int(d.Hours()), minutes)
		}
		return fmt.Sprintf("%.0fh", d.Hours())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	default:
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
}

// Age returns how long ago an instant was.
func Age(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return ""
	}
	return Duration(max(0, now.Sub(t.AsTime())))
}

// Until returns when an instant will be: how far away it is, or its day if that
// is a year or more, or that it has passed.
func Until(t *timestamppb.Timestamp, now time.Time) string {
	switch {
	case t == nil:
		return ""
	case !t.AsTime().After(now):
		return "expired"
	case t.AsTime().Sub(now) >= 365*24*time.Hour:
		return t.AsTime().In(now.Location()).Format(time.DateOnly)
	default:
		return "in " + Duration(t.AsTime().Sub(now))
	}
}

// Clock returns an instant in now's time zone: the time of day, with the date if
// it is not now's.
func Clock(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return ""
	}
	at := t.AsTime().In(now.Location())
	switch {
	case at.Format(time.DateOnly) == now.Format(time.DateOnly):
		return at.Format(time.TimeOnly)
	case at.Year() == now.Year():
		return at.Format("Jan 02 15:04")
	default:
		return at.Format(time.DateOnly)
	}
}
