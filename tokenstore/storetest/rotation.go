package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func rotationTests(s suite) {
	// rotated gives a token whose secret is the previous one, beside a new one.
	rotated := func(b *bench, account token.ID, r token.Rotation) (i issued, next token.SecretRecord) {
		b.Helper()
		i = b.issue(account)
		plain := newSecret(b, token.Production)
		b.write(func(tx *tokenstore.Tx) error {
			if err := tx.UpdateToken(&i.token); err != nil {
				return err
			}
			i.record.Status = token.Previous
			if err := tx.UpdateSecret(&i.record); err != nil {
				return err
			}
			next = Secret(i.token.ID, plain)
			if _, err := InsertSecret(tx, b.ring, &next, plain); err != nil {
				return err
			}
			r.PreviousID = i.record.ID
			return tx.PutRotation(i.token.ID, r)
		})
		return i, next
	}
	used := func(b *bench, secret token.SecretRecord, at time.Time) {
		b.Helper()
		b.write(func(tx *tokenstore.Tx) error {
			if err := tx.BeginRun(token.Run{ID: "run_r", Node: "node_r", StartedAt: Now()}); err != nil {
				return err
			}
			return tx.PutActivity(token.Activity{Run: "run_r", Facts: []token.Fact{{
				TokenID: secret.TokenID, SecretID: secret.ID, First: at, Until: at.Add(time.Hour),
			}}})
		})
	}
	waiting := func(b *bench, after token.ID, limit int) (ids []token.ID, next token.ID) {
		b.Helper()
		b.read(func(tx *tokenstore.Tx) (err error) {
			ids, next, err = tx.GracesToStart(after, limit)
			return err
		})
		return ids, next
	}

	s.test("keeps a rotation beside its token until it is ended", func(b *bench) {
		rotation := func(id token.ID) token.Rotation {
			return get(b, func(tx *tokenstore.Tx) (token.Rotation, error) { return tx.Rotation(id) })
		}
		account := b.account()
		for _, mode := range token.RotationModes() {
			r := token.Rotation{Mode: mode, StartedAt: Now(), Grace: 36 * time.Hour}
			i, _ := rotated(b, account.ID, r)
			r.PreviousID = i.record.ID
			b.same(r, rotation(i.token.ID))
			subject := get(b, func(tx *tokenstore.Tx) (tokenstore.Subject, error) { return tx.Subject(i.token.ID) })
			b.same(r, subject.Rotation)
			require.Len(b, subject.Secrets, 2, "both secrets, for whoever plans")
			r.StartedAt, r.Grace = r.StartedAt.Add(time.Microsecond), 0
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.UpdateToken(&i.token); err != nil {
					return err
				}
				return tx.PutRotation(i.token.ID, r)
			})
			b.same(r, rotation(i.token.ID))
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.UpdateToken(&i.token); err != nil {
					return err
				}
				if err := tx.EndRotation(i.token.ID); err != nil {
					return err
				}
				return tx.EndRotation(i.token.ID)
			})
			b.same(token.Rotation{}, rotation(i.token.ID))
		}
		b.same(token.Rotation{}, rotation(ID("tok")))
	})

	s.test("changes a rotation only together with its token, and stores none that makes no sense", func(b *bench) {
		i := b.issue(b.account().ID)
		good := token.Rotation{PreviousID: i.record.ID, Mode: token.RotateTimed, StartedAt: Now()}
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.PutRotation(i.token.ID, good) }))
		require.Error(b, b.attempt(func(tx *tokenstore.Tx) error { return tx.EndRotation(i.token.ID) }))
		for name, change := range map[string]func(*token.Rotation){
			"no previous secret": func(r *token.Rotation) { r.PreviousID = "" },
			"no start":           func(r *token.Rotation) { r.StartedAt = time.Time{} },
			"no mode":            func(r *token.Rotation) { r.Mode = "" },
			"an unknown mode":    func(r *token.Rotation) { r.Mode = "never" },
			"a negative grace":   func(r *token.Rotation) { r.Grace = -time.Second },
			"a grace for ever":   func(r *token.Rotation) { r.Grace = token.MaxPolicyDuration + time.Second },
		} {
			bad := good
			change(&bad)
			require.Error(b, b.attempt(func(tx *tokenstore.Tx) error {
				t := i.token
				if err := tx.UpdateToken(&t); err != nil {
					return err
				}
				return tx.PutRotation(i.token.ID, bad)
			}), name)
		}
	})

	s.test("finds the rotations whose new secret was used, and no others", func(b *bench) {
		account := b.account()
		onFirstUse := token.Rotation{Mode: token.RotateOnFirstUse, StartedAt: Now(), Grace: time.Hour}
		waits, _ := rotated(b, account.ID, onFirstUse)
		facts, newest := rotated(b, account.ID, onFirstUse)
		noted, notedNew := rotated(b, account.ID, onFirstUse)
		timed, timedNew := rotated(b, account.ID, token.Rotation{Mode: token.RotateTimed, StartedAt: Now()})
		ids, next := waiting(b, "", 10)
		require.Empty(b, ids)
		require.Empty(b, next)

		used(b, newest, Now().Add(time.Minute))
		used(b, timedNew, Now().Add(time.Minute))
		used(b, waits.record, Now().Add(time.Minute)) // the previous one
		b.write(func(tx *tokenstore.Tx) error { return tx.MarkUsed(notedNew.ID, Now().Add(time.Second)) })
		ids, _ = waiting(b, "", 10)
		require.ElementsMatch(b, []token.ID{facts.token.ID, noted.token.ID}, ids)
		require.NotContains(b, ids, timed.token.ID)

		// Page by page, whatever the pages hold.
		var all []token.ID
		for after := token.ID(""); ; {
			ids, next := waiting(b, after, 1)
			all = append(all, ids...)
			if next == "" {
				break
			}
			after = next
		}
		require.ElementsMatch(b, []token.ID{facts.token.ID, noted.token.ID}, all)

		// The first use is the earliest that anybody told of.
		first := func(secret token.SecretRecord) time.Time {
			return get(b, func(tx *tokenstore.Tx) (time.Time, error) { return tx.FirstUse(&secret) })
		}
		require.Equal(b, Now().Add(time.Minute), first(newest))
		used(b, newest, Now().Add(time.Second))
		require.Equal(b, Now().Add(time.Second), first(newest))
		newest.FirstUsed = Now()
		require.Equal(b, Now(), first(newest))
		require.Zero(b, first(timed.record))

		// An end that is right already is not set again, and one that is too late is.
		end := func(at time.Time) {
			b.write(func(tx *tokenstore.Tx) error {
				if err := tx.UpdateToken(&facts.token); err != nil {
					return err
				}
				facts.record.ExpiresAt = at
				return tx.UpdateSecret(&facts.record)
			})
		}
		end(Now().Add(time.Hour + time.Second))
		ids, _ = waiting(b, "", 10)
		require.NotContains(b, ids, facts.token.ID)
		end(Now().Add(time.Hour + 2*time.Second))
		ids, _ = waiting(b, "", 10)
		require.Contains(b, ids, facts.token.ID)
		b.write(func(tx *tokenstore.Tx) error {
			facts.token.State = token.Revoked
			return tx.UpdateToken(&facts.token)
		})
		ids, _ = waiting(b, "", 10)
		require.NotContains(b, ids, facts.token.ID, "it is over with its token")
	})
}
