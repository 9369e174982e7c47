package api

import (
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Notice is one message to one recipient, and what became of it.
type Notice struct {
	ID            token.ID    `json:"id" doc:"Names the message."`
	Event         token.Event `json:"event" doc:"What it tells of." example:"deletion_notice"`
	AccountID     *token.ID   `json:"account_id" doc:"The account that it is about; null: none."`
	TokenID       *token.ID   `json:"token_id" doc:"The token that it is about; null: none."`
	Channel       string      `json:"channel" doc:"mail or webhook." example:"mail"`
	Recipient     string      `json:"recipient" doc:"The address of a mailbox, or the ID of a webhook." example:"ada@example.com"`
	State         string      `json:"state" enum:"waiting,accepted,failed,cancelled" doc:"waiting to be sent, or to be tried again; accepted by the mail server or the webhook; failed: given up; or cancelled: what it announced was called off before it was sent."`
	Attempts      int         `json:"attempts" doc:"How often it was tried."`
	CreatedAt     time.Time   `json:"created_at" doc:"When it was written (RFC 3339, UTC)."`
	NextAttemptAt *time.Time  `json:"next_attempt_at" doc:"When it is tried next (RFC 3339, UTC); null: it is not."`
	RefusedFrom   *time.Time  `json:"refused_from" doc:"Since when it is refused for good (RFC 3339, UTC); null: it is not."`
	DoneAt        *time.Time  `json:"done_at" doc:"When it was accepted, given up or cancelled (RFC 3339, UTC); null: not yet."`
	Problem       string      `json:"problem,omitempty" doc:"What went wrong with the last attempt."`
}

func noticeOf(n *tokenstore.Notice) Notice {
	w := Notice{
		ID: n.ID, Event: n.Event, Channel: n.Channel, Recipient: n.Recipient, State: string(n.State), Attempts: n.Attempts,
		CreatedAt: n.CreatedAt.UTC(), RefusedFrom: timeOrNull(n.RefusedFrom), DoneAt: timeOrNull(n.DoneAt), Problem: n.Problem,
	}
	if n.AccountID != "" {
		w.AccountID = &n.AccountID
	}
	if n.TokenID != "" {
		w.TokenID = &n.TokenID
	}
	if n.State == tokenstore.NoticeWaiting {
		w.NextAttemptAt = timeOrNull(n.NextAt)
	}
	return w
}
