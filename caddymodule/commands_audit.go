package caddymodule

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func auditCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	auditList(in, parent)
	auditVerify(in, parent)
	auditHead(in, parent)
}

func auditList(in *invocation, parent *cobra.Command) {
	var f api.AuditFilter
	var account, after, before string
	cmd := in.client(parent, "list", "Lists the audit log, newest first", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		f.AccountID = token.ID(account)
		var err error
		if after != "" {
			if f.After, err = parseTime("--after", after); err != nil {
				return err
			}
		}
		if before != "" {
			if f.Before, err = parseTime("--before", before); err != nil {
				return err
			}
		}
		page, err := c.AuditPage(ctx, f)
		if err != nil {
			return err
		}
		return printPage(in, &page, func(e *api.AuditEntry) string { return strconv.FormatInt(e.Seq, 10) },
			[]string{"SEQ", "AT", "ACTOR", "VERB", "TARGET", "CHANGE"},
			func(e *api.AuditEntry) []string {
				return []string{strconv.FormatInt(e.Seq, 10), showTime(&e.At, "-"), showActor(&e.Actor), e.Verb, e.Target, showShort(string(e.After))}
			})
	})
	flags := cmd.Flags()
	flags.StringVar(&account, "account", "", "only entries of the account with this ID")
	flags.StringVar(&f.Target, "target", "", "only entries about this ID or name")
	flags.StringVar(&f.Verb, "verb", "", "only entries of this verb, such as token.rotate")
	flags.StringVar(&after, "after", "", "only entries from after this time")
	flags.StringVar(&before, "before", "", "only entries from before this time")
	pageFlags(cmd, &f.Cursor, &f.Limit)
}

func showActor(a *api.Actor) string {
	name := a.Kind
	if a.Name != "" {
		name += " " + a.Name
	}
	if !a.Verified {
		name += " (unverified)"
	}
	return name
}

func auditVerify(in *invocation, parent *cobra.Command) {
	var head string
	cmd := in.client(parent, "verify", "Checks that nobody changed, removed or reordered an entry", cobra.NoArgs, func(ctx context.Context, c *api.Client, _ []string) error {
		var earlier *api.AuditHead
		if head != "" {
			var err error
			if earlier, err = readHead(head); err != nil {
				return err
			}
		}
		report, err := c.VerifyAudit(ctx, earlier)
		if err != nil {
			return err
		}
		if err := in.printReport(&report); err != nil {
			return err
		}
		if !report.Valid {
			return errors.New("the audit log was changed by other means than this program")
		}
		if head == "" {
			in.say("Without --head, a log that was cut off at its end looks whole: keep what `audit head` prints somewhere else.")
		}
		return nil
	})
	cmd.Flags().StringVar(&head, "head", "", "a file that `audit head` wrote earlier: the log must still contain it")
}

func (in *invocation) printReport(r *api.AuditReport) error {
	if err := in.printOne(r, showYes(r.Valid), [][2]string{
		{"valid", showYes(r.Valid)},
		{"entries", strconv.FormatInt(r.Entries, 10)},
		{"head", fmt.Sprintf("%d %s", r.Head.Seq, r.Head.Hash)},
	}); err != nil {
		return err
	}
	for _, problem := range r.Problems {
		in.say("%s", problem)
	}
	return nil
}

func auditHead(in *invocation, parent *cobra.Command) {
	cmd := in.client(parent, "head [FILE]", "Writes the signed end of the log, to be kept elsewhere", cobra.MaximumNArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		report, err := c.VerifyAudit(ctx, nil)
		if err != nil {
			return err
		}
		if !report.Valid {
			return errors.Join(in.printReport(&report), errors.New("no head of a log that does not hold"))
		}
		head, err := storedHead(&report.Head)
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(head, "", "  ")
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if len(args) == 0 {
			_, err = in.OutOrStdout().Write(text)
			return err
		}
		return os.WriteFile(args[0], text, 0o644)
	})
	cmd.Long = `Checks the audit log and writes its signed end to the file, or to standard
output. Kept where whoever can write to the store can not, it shows later that
the log was cut off: audit verify --head FILE.`
}

// The file of a head has the store's own form, which names itself and is read
// strictly, since it is to be understood years later.

func storedHead(h *api.AuditHead) (tokenstore.AuditHead, error) {
	if h.Seq == 0 || h.At == nil {
		return tokenstore.AuditHead{}, errors.New("the audit log is empty: there is no head yet")
	}
	stored := tokenstore.AuditHead{Seq: h.Seq, At: *h.At, KeyID: h.KeyID}
	for text, into := range map[string]*[32]byte{h.Hash: &stored.Hash, h.MAC: &stored.MAC} {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != len(into) {
			return tokenstore.AuditHead{}, api.ErrUnexpectedAnswer
		}
		copy(into[:], raw)
	}
	return stored, nil
}

func readHead(file string) (*api.AuditHead, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--head: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("--head: %w", err)
	}
	var stored tokenstore.AuditHead
	if err := stored.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("--head: %w", err)
	}
	return &api.AuditHead{
		Seq: stored.Seq, At: &stored.At, KeyID: stored.KeyID,
		Hash: hex.EncodeToString(stored.Hash[:]), MAC: hex.EncodeToString(stored.MAC[:]),
	}, nil
}
