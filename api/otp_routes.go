package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
)

type (
	otpAnswer       struct{ Body OTP }
	enrolmentAnswer struct{ Body Enrolment }
	recoveryAnswer  struct{ Body RecoveryCodes }
	confirmOTP      struct {
		ID   string `path:"id" doc:"The ID of the record."`
		Body FirstCode
	}
)

func (h *handler) otpRoutes() {
	a := h.o.Authority
	register(h, route{
		method: http.MethodGet, path: "/users/{id}/otp", id: "showOTP", tag: "users",
		summary: "Show how it stands with a user's one-time codes",
	}, func(ctx context.Context, by authority.By, in *byID) (*otpAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		status, err := a.OTP(ctx, by, id)
		if err != nil {
			return nil, err
		}
		return &otpAnswer{Body: otpOf(&status)}, nil
	})
	register(h, route{
		method: http.MethodPost, path: "/users/{id}/otp", id: "enrolOTP", tag: "users", status: http.StatusCreated,
		summary: "Begin to enrol an authenticator app",
		about:   "Gives the secret for the user's authenticator app, in this response and never again. It counts once a code of it was given to confirm. A user who has codes gives one of them to enrol anew; an operator resets them first.",
		codes:   []string{codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *switchRecord) (*enrolmentAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		begun, err := a.StartEnrolment(ctx, by, id)
		if err != nil {
			return nil, err
		}
		picture, err := authority.QRPicture(begun.URI)
		if err != nil {
			return nil, err
		}
		return &enrolmentAnswer{Body: Enrolment{URI: begun.URI, Secret: begun.Secret, QR: picture, Until: begun.Until}}, nil
	})
	register(h, route{
		method: http.MethodPost, path: "/users/{id}/otp/confirm", id: "confirmOTP", tag: "users",
		summary: "Confirm the enrolment with its first code",
		about:   "Gives the recovery codes, in this response and never again.",
		codes:   []string{codeInvalidState},
	}, func(ctx context.Context, by authority.By, in *confirmOTP) (*recoveryAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		codes, err := a.ConfirmEnrolment(ctx, by, id)
		if err != nil {
			return nil, err
		}
		return &recoveryAnswer{Body: RecoveryCodes{Codes: codes}}, nil
	})
	register(h, route{
		method: http.MethodDelete, path: "/users/{id}/otp", id: "resetOTP", tag: "users",
		summary: "Reset a user's one-time codes",
		about:   "For whoever lost the device and the recovery codes. Only an operator may, after making sure who asks. It is no error when there are none.",
	}, func(ctx context.Context, by authority.By, in *byID) (*goneAnswer, error) {
		id, p := recordID(in.ID)
		if p != nil {
			return nil, p
		}
		if err := a.ResetOTP(ctx, by, id); err != nil {
			return nil, err
		}
		return &goneAnswer{Body: Gone{Deleted: true}}, nil
	})
}
