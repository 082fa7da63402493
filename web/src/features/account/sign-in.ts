// Leaving for the issuer and coming back: addresses only; the hub does the signing in.

/** Only a path of this console may be returned to, so that a crafted link cannot lead elsewhere. */
export function safeReturn(path: string | undefined): string {
  return path?.startsWith('/') && !/^\/[/\\]/.test(path) ? path : '/'
}

/** The hub's address that begins a sign-in. */
export function signInAddress(returnTo: string | undefined, email?: string): string {
  const query = new URLSearchParams({ return_to: safeReturn(returnTo) })
  if (email) query.set('email', email)
  return `/login?${query}`
}

/** Says why the hub sent the browser back without signing it in. */
export function reasonOf(error: string): string {
  switch (error) {
    case 'unknown_email':
      return 'No organization of this hub knows that e-mail address. Ask whoever invited you which address to use.'
    case 'not_a_member':
      return 'You signed in, but you are not a member of an organization here. Ask an owner to let you in.'
    case 'denied':
      return 'The sign-in was cancelled or refused by your identity provider.'
    case 'expired':
      return 'The sign-in took too long or was opened twice. Please try again.'
    case 'issuer':
      return 'Your identity provider could not be reached or gave an answer that the hub does not trust.'
    default:
      return 'The hub could not sign you in. Please try again.'
  }
}
