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

/** Says why the hub sent the browser here; what fails at the issuer has a page of the hub's own. */
export function reasonOf(error: string): string {
  if (error === 'unknown_email') {
    return 'No organization of this hub knows that address. Ask whoever invited you which one to use.'
  }
  return 'The hub could not sign you in. Please try again.'
}
