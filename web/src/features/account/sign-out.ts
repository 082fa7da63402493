// Ends the browser's session at the hub and leaves nothing of it on the screen.

/** A full page load follows, so that no answer given to one person stays in memory for the next. */
export async function signOut(): Promise<void> {
  await fetch('/logout', { method: 'POST', credentials: 'same-origin', redirect: 'manual' }).catch(
    () => undefined,
  )
  globalThis.location.assign('/sign-in')
}
