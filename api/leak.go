package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

// Leak is one finding in the form in which GitHub reports to the makers of secrets. Its
// members may be anything, and more may come: no oddity of one finding must keep the
// others from being dealt with.
type Leak struct {
	Token  Secret `json:"token" doc:"The text that was found."`
	Type   string `json:"type,omitempty" nullable:"true" doc:"What the reporter calls this kind of secret. It comes back as token_type." example:"sallyport_api_token"`
	URL    string `json:"url,omitempty" nullable:"true" doc:"Where it was found. Only the host is kept." example:"https://github.com/example/repository"`
	Source string `json:"source,omitempty" nullable:"true" doc:"What kind of place that is, in one word." example:"content"`
}

// LeakVerdict is what came of a finding, in the form in which GitHub takes it.
type LeakVerdict struct {
	TokenHash string `json:"token_hash" doc:"The SHA-256 of the text that was found, in hex. The text itself is not repeated." pattern:"^[0-9a-f]{64}$"`
	TokenType string `json:"token_type" doc:"The type, as it was sent, where that is at most 50 letters, digits, dots, hyphens and underscores; otherwise empty." example:"sallyport_api_token"`
	Label     string `json:"label" enum:"true_positive,false_positive" doc:"Whether it is, or was, a secret of a token of this gateway."`

	Outcome string   `json:"outcome,omitempty" enum:"revoked,noted,already_ended,unknown" doc:"With detail only. revoked: it worked, and its token was revoked. noted: it worked no more, and its token lives on. already_ended: its token had ended before. unknown: no secret of this gateway."`
	TokenID token.ID `json:"token_id,omitempty" doc:"With detail only: the token." example:"tok_example"`
}

// The labels of a verdict.
const (
	truePositive  = "true_positive"
	falsePositive = "false_positive"
)

type reportLeaks struct {
	Detail bool   `query:"detail" doc:"Adds outcome and token_id to each verdict, for people of the gateway. GitHub's form has neither."`
	Body   []Leak `maxItems:"1000" nullable:"false"`
}

func (h *handler) leakRoutes() {
	register(h, route{
		method: http.MethodPost, path: "/leaks", id: "reportLeaks", tag: "tokens", maxBody: maxReport, open: true,
		summary: "Report secrets that were found where others can read them",
		about: "Takes what GitHub's secret scanning sends to its partners, at most 1,000 findings and 1 MiB, and answers as it asks of them, in the order of the findings. " +
			"The token of a secret that works is revoked at once and for good, whatever the policy's `confirm` says, and those whom the policy names are told. " +
			"A retired secret is noted and told of, once, and its token lives on. Repeating a report changes nothing; when it failed, repeat all of it.\n\n" +
			"A signature of GitHub's is not checked: whoever passes its messages on to this API is an operator, and checks it before.",
	}, func(ctx context.Context, by authority.By, in *reportLeaks) (*struct{ Body []LeakVerdict }, error) {
		leaks := make([]authority.Leak, len(in.Body))
		for i, l := range in.Body {
			leaks[i] = authority.Leak{Secret: l.Token.Reveal(), Source: l.Source, URL: l.URL}
		}
		results, err := h.o.Authority.ReportLeaks(ctx, by, leaks)
		if err != nil {
			return nil, err
		}
		verdicts := make([]LeakVerdict, len(results))
		for i, r := range results {
			verdicts[i] = verdictOf(&in.Body[i], r, in.Detail)
		}
		return &struct{ Body []LeakVerdict }{verdicts}, nil
	})
}

func verdictOf(l *Leak, r authority.LeakResult, detail bool) LeakVerdict {
	hash := sha256.Sum256([]byte(l.Token.Reveal()))
	v := LeakVerdict{TokenHash: hex.EncodeToString(hash[:]), Label: truePositive}
	if plainType.MatchString(l.Type) {
		v.TokenType = l.Type
	}
	if r.Outcome == authority.LeakUnknown {
		v.Label = falsePositive
	}
	if detail {
		v.Outcome, v.TokenID = r.Outcome.String(), r.TokenID
	}
	return v
}

// plainType is a type that may be repeated: no secret of ours is as short.
var plainType = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,50}$`)

// ReportLeaks reports secrets that were found, and says what came of each.
func (c *Client) ReportLeaks(ctx context.Context, leaks []Leak) ([]LeakVerdict, error) {
	if leaks == nil {
		leaks = []Leak{}
	}
	return ask[[]LeakVerdict](ctx, c, call{method: http.MethodPost, path: "/leaks", query: url.Values{"detail": {"true"}}, body: leaks})
}
