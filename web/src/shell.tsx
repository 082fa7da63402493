// The frame of everything after sign-in. It stands only while the hub says who is there; otherwise it leads to the sign-in.

import { Skeleton } from '@mantine/core'
import { Link, Outlet, useLocation, useRouter } from '@tanstack/react-router'
import { useEffect, useRef } from 'react'
import { AccountMenu } from './features/account/account-menu'
import { type Me, useMe } from './features/account/me'
import { useChanges } from './hub/changes'
import { asProblem } from './hub/problem'
import classes from './shell.module.css'
import { Mark } from './ui/brand'
import { ColourScheme } from './ui/colour-scheme'
import { Doorstep } from './ui/doorstep'
import { LiveSign } from './ui/live-sign'
import { ProblemNotice } from './ui/problem-notice'

export function Shell() {
  const me = useMe()
  if (me.isError) {
    const problem = asProblem(me.error)
    if (problem.isSignedOut) return <ToSignIn />
    if (!me.data) {
      return (
        <Doorstep>
          <h1 className={classes.hidden}>Fairlead</h1>
          <ProblemNotice problem={problem} retry={() => void me.refetch()} />
        </Doorstep>
      )
    }
  }
  return me.data ? <Inside me={me.data} /> : <Loading />
}

/** Leads to the sign-in once, from where the person was when it turned out to be needed. */
function ToSignIn() {
  const router = useRouter()
  useEffect(() => {
    const from = router.state.location.href
    void router.navigate({ to: '/sign-in', search: { return_to: from }, replace: true })
  }, [router])
  return null
}

function Inside({ me }: { me: Me }) {
  const liveness = useChanges()
  useFocusOnNewPage()
  return (
    <>
      <a className={classes.skip} href="#content">
        Skip to the content
      </a>
      <header className={classes.header}>
        <div className={classes.bar}>
          <Link to="/" className={classes.brand} aria-label={`Fairlead, ${me.organization.name}`}>
            <Mark />
            <span className={classes.organization}>{me.organization.name}</span>
          </Link>
          <nav className={classes.nav} aria-label="Main">
            <NavLink to="/">Teamspaces</NavLink>
            <NavLink to="/activity">Activity</NavLink>
            {me.may.manage_service_accounts && (
              <NavLink to="/service-accounts">Service accounts</NavLink>
            )}
          </nav>
          <div className={classes.end}>
            <LiveSign liveness={liveness} />
            <ColourScheme />
            <AccountMenu me={me} />
          </div>
        </div>
      </header>
      <main id="content" tabIndex={-1} className={classes.main}>
        <Outlet />
      </main>
    </>
  )
}

type Place = '/' | '/activity' | '/service-accounts'

function NavLink({ to, children }: { to: Place; children: string }) {
  const here = useLocation({ select: ({ pathname }) => pathname })
  const current = to === '/' ? here === '/' || here.startsWith('/teamspaces') : here.startsWith(to)
  return (
    <Link to={to} className={classes.link} aria-current={current ? 'page' : undefined}>
      {children}
    </Link>
  )
}

/** Begins each new page at its content, where a screen reader goes on reading and Tab goes on from. */
function useFocusOnNewPage() {
  const here = useLocation({ select: ({ pathname }) => pathname })
  const before = useRef(here)
  useEffect(() => {
    if (before.current === here) return
    before.current = here
    document.getElementById('content')?.focus({ preventScroll: true })
  }, [here])
}

/** Of the same shape as what comes, so that nothing jumps. */
function Loading() {
  return (
    <>
      <div className={classes.header} aria-hidden>
        <div className={classes.bar}>
          <Skeleton w={150} h={28} />
        </div>
      </div>
      <main className={classes.main} aria-busy>
        <h1 className={classes.hidden}>Loading</h1>
        <Skeleton w={220} h={30} />
        <Skeleton w="100%" h={180} mt="xl" />
      </main>
    </>
  )
}
