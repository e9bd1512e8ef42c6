package desk

import "time"

// Seed returns the tickets that the example starts with.
func Seed() []Ticket {
	at := func(day, hour int) time.Time { return time.Date(2026, time.November, day, hour, 12, 0, 0, time.UTC) }
	said := func(from, body string, t time.Time) []Message { return []Message{{From: from, Body: body, Time: t}} }
	return []Ticket{
		{
			ID: "T-1001", Customer: "mira@example.com", Subject: "Kettle arrived broken", Status: "open", PaidCents: 4900,
			Messages: said("mira@example.com", "The lid is cracked. I would like my money back.", at(18, 9)),
		},
		{
			ID: "T-1002", Customer: "jonas@example.com", Subject: "Charged twice for the annual plan", Status: "open", PaidCents: 23800,
			Messages: said("jonas@example.com", "My card shows two payments of 119 euros.", at(19, 14)),
		},
		{
			ID: "T-1003", Customer: "aylin@example.com", Subject: "Where is my parcel?", Status: "open", PaidCents: 3250,
			Messages: said("aylin@example.com", "The tracking page has not changed for a week.", at(20, 8)),
		},
		{
			ID: "T-1004", Customer: "mira@example.com", Subject: "Thank you", Status: "closed", PaidCents: 0,
			Messages: said("mira@example.com", "The new one works, thanks!", at(21, 16)),
		},
		{
			ID: "LEGAL-7", Customer: "kanzlei@example.com", Subject: "Preservation of correspondence", Status: "open", PaidCents: 1900,
			Messages: said("kanzlei@example.com", "You are asked to preserve all correspondence on this order.", at(21, 11)),
		},
	}
}
