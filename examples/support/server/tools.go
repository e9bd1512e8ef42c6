package server

import (
	"context"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/examples/support/desk"
)

// addTools adds the desk's tools. Their annotations are what servers say of
// themselves; Reeve decides by its own catalogue's classification instead.
func addTools(s *mcp.Server, t tools) {
	read := &mcp.ToolAnnotations{ReadOnlyHint: true, OpenWorldHint: new(false)}
	write := &mcp.ToolAnnotations{DestructiveHint: new(false)}
	destroy := &mcp.ToolAnnotations{DestructiveHint: new(true), OpenWorldHint: new(false)}

	mcp.AddTool(s, &mcp.Tool{Name: "search_tickets", Annotations: read, Description: "Find tickets by text and status."}, t.search)
	mcp.AddTool(s, &mcp.Tool{Name: "get_ticket", Annotations: read, Description: "Read one ticket."}, t.get)
	mcp.AddTool(s, &mcp.Tool{Name: "await_reply", Annotations: read, Description: "Wait until something is said on a ticket."}, t.await)
	mcp.AddTool(s, &mcp.Tool{Name: "reply_to_ticket", Annotations: write, Description: "Write to the customer."}, t.reply)
	mcp.AddTool(s, &mcp.Tool{Name: "close_ticket", Annotations: write, Description: "Close a ticket that is settled."}, t.close)
	mcp.AddTool(s, &mcp.Tool{Name: "issue_refund", Annotations: destroy, Description: "Pay money back to the customer."}, t.refund)
	mcp.AddTool(s, &mcp.Tool{Name: "delete_customer", Annotations: destroy, Description: "Remove a customer and all their tickets."}, t.forget)
	mcp.AddTool(s, &mcp.Tool{Name: "export_customers", Annotations: read, Description: "List every customer's address."}, t.export)
}

// tools are the tools' handlers. A problem that the caller can do something
// about is a result marked as an error, as MCP has it.
type tools struct {
	desk *desk.Desk
}

type searchArgs struct {
	Text   string `json:"text,omitempty" jsonschema:"text to look for, anywhere on the ticket"`
	Status string `json:"status,omitempty" jsonschema:"open or closed; empty for both"`
}

type searchResult struct {
	Tickets []desk.Ticket `json:"tickets"`
}

func (t tools) search(_ context.Context, _ *mcp.CallToolRequest, a searchArgs) (*mcp.CallToolResult, searchResult, error) {
	return nil, searchResult{t.desk.Search(a.Text, a.Status)}, nil
}

type ticketArgs struct {
	Ticket string `json:"ticket" jsonschema:"the ticket's id, such as T-1001"`
}

func (t tools) get(_ context.Context, _ *mcp.CallToolRequest, a ticketArgs) (*mcp.CallToolResult, desk.Ticket, error) {
	ticket, _, err := t.desk.Ticket(a.Ticket)
	return nil, ticket, err
}

func (t tools) close(_ context.Context, _ *mcp.CallToolRequest, a ticketArgs) (*mcp.CallToolResult, desk.Ticket, error) {
	ticket, err := t.desk.Close(a.Ticket)
	return nil, ticket, err
}

type replyArgs struct {
	Ticket string `json:"ticket" jsonschema:"the ticket's id, such as T-1001"`
	Body   string `json:"body" jsonschema:"what to write to the customer"`
}

func (t tools) reply(_ context.Context, _ *mcp.CallToolRequest, a replyArgs) (*mcp.CallToolResult, desk.Ticket, error) {
	ticket, err := t.desk.Say(a.Ticket, "support", a.Body)
	return nil, ticket, err
}

type refundArgs struct {
	Ticket      string `json:"ticket" jsonschema:"the ticket's id, such as T-1001"`
	AmountCents int64  `json:"amount_cents" jsonschema:"how much to pay back, in cents of a euro"`
	Reason      string `json:"reason,omitempty" jsonschema:"why, for the books"`
}

func (t tools) refund(_ context.Context, _ *mcp.CallToolRequest, a refundArgs) (*mcp.CallToolResult, desk.Ticket, error) {
	ticket, err := t.desk.Refund(a.Ticket, a.AmountCents)
	return nil, ticket, err
}

type forgetArgs struct {
	Customer string `json:"customer" jsonschema:"the customer's address"`
}

type forgetResult struct {
	Tickets int `json:"tickets"`
}

func (t tools) forget(_ context.Context, _ *mcp.CallToolRequest, a forgetArgs) (*mcp.CallToolResult, forgetResult, error) {
	n, err := t.desk.Forget(a.Customer)
	return nil, forgetResult{n}, err
}

type exportResult struct {
	Customers []string `json:"customers"`
}

func (t tools) export(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, exportResult, error) {
	result := exportResult{Customers: []string{}}
	for _, ticket := range t.desk.Search("", "") {
		result.Customers = append(result.Customers, ticket.Customer)
	}
	return nil, result, nil
}

type awaitArgs struct {
	Ticket  string `json:"ticket" jsonschema:"the ticket's id, such as T-1001"`
	Seconds int    `json:"seconds,omitempty" jsonschema:"how long to wait; 30 if it is not said, 300 at the most"`
}

type awaitResult struct {
	Replied bool        `json:"replied"`
	Ticket  desk.Ticket `json:"ticket"`
}

// await is a call that stays open. Every second it tells that it is still
// there, to a caller that asked for progress.
func (t tools) await(ctx context.Context, req *mcp.CallToolRequest, a awaitArgs) (*mcp.CallToolResult, awaitResult, error) {
	seconds := min(a.Seconds, 300)
	if seconds <= 0 {
		seconds = 30
	}
	before, changed, err := t.desk.Ticket(a.Ticket)
	if err != nil {
		return nil, awaitResult{}, err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for waited := 0; waited < seconds; {
		select {
		case <-ctx.Done():
			return nil, awaitResult{}, fmt.Errorf("await reply: %w", context.Cause(ctx))
		case <-tick.C:
			waited++
			if token := req.Params.GetProgressToken(); token != nil {
				progress := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: float64(waited), Total: float64(seconds)}
				if err := req.Session.NotifyProgress(ctx, progress); err != nil {
					return nil, awaitResult{}, fmt.Errorf("tell progress: %w", err)
				}
			}
		case <-changed:
			var now desk.Ticket
			if now, changed, err = t.desk.Ticket(a.Ticket); err != nil {
				return nil, awaitResult{}, err
			}
			if len(now.Messages) > len(before.Messages) {
				return nil, awaitResult{Replied: true, Ticket: now}, nil
			}
		}
	}
	return nil, awaitResult{Ticket: before}, nil
}
