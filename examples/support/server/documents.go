package server

import (
	"context"
	"fmt"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const refundPolicy = `# Refunds

1. A broken or missing article is refunded in full, up to what was paid.
2. Frontline may pay back up to 50 euros by itself. Anything above goes to a person.
3. On tickets under legal hold nothing is written, closed or paid.
`

const payScale = `# Pay scale

Not for the help desk.
`

// addDocuments adds what can be read, and the prompt.
func addDocuments(s *mcp.Server) {
	for _, d := range []struct{ uri, name, text string }{
		{"desk://policies/refunds", "Refund policy", refundPolicy},
		{"desk://internal/pay-scale", "Pay scale", payScale},
	} {
		s.AddResource(&mcp.Resource{URI: d.uri, Name: d.name, MIMEType: "text/markdown"},
			func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
				return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{
					{URI: d.uri, MIMEType: "text/markdown", Text: d.text},
				}}, nil
			})
	}
	s.AddPrompt(&mcp.Prompt{
		Name: "apology", Description: "An apology to start a reply with.",
		Arguments: []*mcp.PromptArgument{{Name: "ticket", Required: true}},
	}, func(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
			Role:    "user",
			Content: &mcp.TextContent{Text: fmt.Sprintf("Write a short, sincere apology for what happened in %s.", req.Params.Arguments["ticket"])},
		}}}, nil
	})
}
