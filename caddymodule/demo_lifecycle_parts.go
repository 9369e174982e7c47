package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
)

// lifeTries is how often the late request may come too late, on a machine that
// stood still meanwhile, before the story is given up.
const lifeTries = 5

// cast is the tokens, and what becomes of each.
func (l *life) cast() []*part {
	return []*part{
		{
			name: "checkout", ask: api.NewToken{Access: token.ReadWrite, IPAllowlist: thisMachine()},
			begin: l.beginBusy, hear: ignore,
		},
		{
			name: "dashboard", ask: api.NewToken{Access: token.ReadWrite, IPAllowlist: thisMachine()},
			begin: l.beginReading, hear: l.hearReading, waits: "to lose the permission to write that it does not use",
		},
		{
			name: "old-export", ask: api.NewToken{Access: token.ReadOnly},
			begin: l.beginOnce, hear: l.hearForgotten, waits: "to be deleted, since nobody uses it",
		},
		{
			name: "month-end", ask: api.NewToken{Access: token.ReadOnly},
			begin: l.beginOnce, hear: l.hearLate, waits: "that its deletion is called off after a late request",
		},
		{
			name: "backup", ask: api.NewToken{Access: token.ReadOnly},
			begin: l.beginOnce, hear: l.hearMissed, waits: "to be deleted and restored",
		},
	}
}

func ignore(context.Context, *part, token.Event) error { return nil }

// beginBusy uses all that a token may do, all the time.
func (l *life) beginBusy(ctx context.Context, p *part) error {
	if err := l.expect(ctx, p, wanted{status: http.StatusOK, method: http.MethodGet}, wanted{status: http.StatusCreated, method: http.MethodPost}); err != nil {
		return err
	}
	l.say("gate", p.name, "GET 200, POST 201, and on like this all the time")
	l.keepUsing(p, http.MethodGet, http.MethodPost)
	return nil
}

// beginReading writes once, and only reads from then on.
func (l *life) beginReading(ctx context.Context, p *part) error {
	if err := l.expect(ctx, p, wanted{status: http.StatusOK, method: http.MethodGet}, wanted{status: http.StatusCreated, method: http.MethodPost}); err != nil {
		return err
	}
	l.say("gate", p.name, "GET 200, POST 201, and from now on it only reads")
	l.keepUsing(p, http.MethodGet)
	return nil
}

// beginOnce uses a token once, and then never again.
func (l *life) beginOnce(ctx context.Context, p *part) error {
	if err := l.expect(ctx, p, wanted{status: http.StatusOK, method: http.MethodGet}); err != nil {
		return err
	}
	l.say("gate", p.name, "GET 200, and then nobody uses it any more")
	return nil
}

// hearReading: M2 to M5, L1 and L6.
func (l *life) hearReading(ctx context.Context, p *part, e token.Event) error {
	switch e {
	case token.EventDowngradeNotice:
		a, err := l.request(ctx, p, http.MethodGet)
		if err != nil {
			return err
		}
		l.say("gate", p.name, "GET %s", &a)
	case token.EventDowngraded:
		a, err := l.request(ctx, p, http.MethodPost)
		if err != nil {
			return err
		}
		l.say("gate", p.name, "POST %s", &a)
		if a.code != problemReadOnlyToken.code || a.downgradedAt == "" {
			return unexpected(p, &a, "403 read_only_token with the date of its downgrade")
		}
		if _, err := l.client.UndoDowngrade(ctx, p.issued.Token.ID, true); err != nil {
			return err
		}
		l.say("operator", p.name, "token undo-downgrade %s", p.issued.Token.ID)
		if err := l.expect(ctx, p, wanted{status: http.StatusCreated, method: http.MethodPost}); err != nil {
			return err
		}
		l.say("gate", p.name, "POST 201 again")
		p.outcome = "only read: told, narrowed to read_only, and given back what it had"
	default:
	}
	return nil
}

// hearForgotten: M6, M8, M9 and L2.
func (l *life) hearForgotten(ctx context.Context, p *part, e token.Event) error {
	if e != token.EventUnusedDeleted {
		return nil
	}
	p.outcome = "not used: told, and deleted"
	return l.refusedAsDeleted(ctx, p)
}

// hearLate: M7. Whoever reads the notice still uses the token.
func (l *life) hearLate(ctx context.Context, p *part, e token.Event) error {
	switch {
	case p.outcome != "":
	case e == token.EventDeletionNotice:
		a, err := l.request(ctx, p, http.MethodGet)
		if err != nil {
			return err
		}
		l.say("gate", p.name, "GET %s", &a)
		switch {
		case a.status == http.StatusOK:
			l.keepUsing(p, http.MethodGet)
		case a.code == problemRevokedToken.code:
			return l.again(ctx, p)
		default:
			return unexpected(p, &a, "200")
		}
	case e == token.EventDeletionCancelled:
		p.outcome = "not used until its notice came: told, used in time, and kept"
	case e == token.EventUnusedDeleted:
		return l.again(ctx, p)
	}
	return nil
}

// again starts a part anew, with another token: the request came too late.
func (l *life) again(ctx context.Context, p *part) error {
	if p.tries++; p.tries >= lifeTries {
		return fmt.Errorf("the token %s was deleted each time before the late request could be sent: the machine is too slow for windows of seconds", p.name)
	}
	l.say("demo", p.name, "the request came too late, since this machine is busy: once more, with another token")
	var err error
	if p.issued, err = l.issue(ctx, p.ask); err != nil {
		return err
	}
	return p.begin(ctx, p)
}

// hearMissed: M6 and L5. Somebody misses the token once it is gone.
func (l *life) hearMissed(ctx context.Context, p *part, e token.Event) error {
	if e != token.EventUnusedDeleted || p.outcome != "" {
		return nil
	}
	if err := l.refusedAsDeleted(ctx, p); err != nil {
		return err
	}
	if _, err := l.client.RestoreToken(ctx, p.issued.Token.ID, api.Restoring{Confirm: true}); err != nil {
		return err
	}
	l.say("operator", p.name, "token restore %s", p.issued.Token.ID)
	if err := l.expect(ctx, p, wanted{status: http.StatusOK, method: http.MethodGet}); err != nil {
		return err
	}
	l.say("gate", p.name, "GET 200 again")
	l.keepUsing(p, http.MethodGet)
	p.outcome = "not used: told, deleted, and restored when it was missed"
	return nil
}

func (l *life) refusedAsDeleted(ctx context.Context, p *part) error {
	a, err := l.request(ctx, p, http.MethodGet)
	if err != nil {
		return err
	}
	l.say("gate", p.name, "GET %s", &a)
	if a.status != http.StatusUnauthorized || a.code != problemRevokedToken.code {
		return unexpected(p, &a, "401 revoked_token")
	}
	return nil
}

// conclude looks at the token that was used all the time: it has lost nothing.
func (l *life) conclude(ctx context.Context) error {
	busy := l.parts[0]
	if err := l.expect(ctx, busy, wanted{status: http.StatusOK, method: http.MethodGet}, wanted{status: http.StatusCreated, method: http.MethodPost}); err != nil {
		return err
	}
	t, err := l.client.Token(ctx, busy.issued.Token.ID)
	if err != nil {
		return err
	}
	l.mu.Lock()
	served, refused := l.served, l.refused
	l.mu.Unlock()
	if refused != nil {
		return refused
	}
	l.say("gate", busy.name, "GET 200, POST 201 still; %s, and of %d requests in the background none was refused", t.Access, served)
	busy.outcome = "used all that it may do: kept all of it"
	return nil
}

// keepUsing sends requests with a token until the story ends.
func (l *life) keepUsing(p *part, methods ...string) {
	use := *p // another token may take its part
	l.background(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(lifePace):
			}
			for _, method := range methods {
				a, err := l.request(ctx, &use, method)
				if ctx.Err() != nil {
					return
				}
				l.mu.Lock()
				switch {
				case l.refused != nil:
				case err != nil:
					l.refused = err
				case a.status/100 != 2:
					l.refused = unexpected(&use, &a, "that a token that is in use goes on working")
				default:
					l.served++
				}
				l.mu.Unlock()
			}
		}
	})
}

// wanted is a request with the answer that it must get.
type wanted struct {
	status int
	method string
}

func (l *life) expect(ctx context.Context, p *part, list ...wanted) error {
	for _, w := range list {
		a, err := l.request(ctx, p, w.method)
		if err != nil {
			return err
		}
		if a.status != w.status {
			return unexpected(p, &a, fmt.Sprintf("%s %d", w.method, w.status))
		}
	}
	return nil
}

// lifeAnswer is what the gate answered.
type lifeAnswer struct {
	status                        int
	scheduled                     string // the header that says what is to come
	code, downgradedAt, undoUntil string // of a refusal
	made                          string // the ID of what was created
}

func (a *lifeAnswer) String() string {
	parts := []string{fmt.Sprint(a.status)}
	if a.code != "" {
		parts[0] += " " + a.code
	}
	for _, more := range [][2]string{{"downgraded_at", a.downgradedAt}, {"undo_until", a.undoUntil}, {"Sallyport-Scheduled:", a.scheduled}} {
		if more[1] != "" {
			parts = append(parts, more[0]+" "+more[1])
		}
	}
	return strings.Join(parts, ", ")
}

func unexpected(p *part, got *lifeAnswer, want string) error {
	return fmt.Errorf("the gate answered a request with the token %s: %s; the demo expected: %s", p.name, got, want)
}

// maxLifeAnswer is more than any answer of the sample API that is read.
const maxLifeAnswer = 1 << 20

// request sends one request through the gate, as a client of the API would. What
// it makes it removes again, so that the sample API does not fill up.
func (l *life) request(ctx context.Context, p *part, method string) (lifeAnswer, error) {
	const payments = "/v1/payments"
	body := ""
	if method == http.MethodPost {
		body = `{"amount_cents":4200,"currency":"EUR"}`
	}
	a, err := l.send(ctx, p, method, payments, body)
	if err == nil && a.made != "" {
		_, err = l.send(ctx, p, http.MethodDelete, payments+"/"+a.made, "")
	}
	return a, err
}

var errNoGate = errors.New("the gate does not answer")

func (l *life) send(ctx context.Context, p *part, method, path, body string) (a lifeAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.gate+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+p.issued.Secret.Reveal())
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.api.Do(req)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errNoGate, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLifeAnswer))
	if err != nil {
		return a, fmt.Errorf("%w: %w", errNoGate, err)
	}
	var read struct {
		ID           string `json:"id"`
		Code         string `json:"code"`
		DowngradedAt string `json:"downgraded_at"`
		UndoUntil    string `json:"undo_until"`
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &read); err != nil {
			return a, errors.New("the gate answered something that is no JSON")
		}
	}
	a = lifeAnswer{
		status: resp.StatusCode, scheduled: resp.Header.Get("Sallyport-Scheduled"),
		code: read.Code, downgradedAt: read.DowngradedAt, undoUntil: read.UndoUntil,
	}
	if resp.StatusCode == http.StatusCreated {
		a.made = read.ID
	}
	return a, nil
}
