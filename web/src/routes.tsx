// Every address of the console. What lies behind the shell needs a signed-in person; the hub decides what they see.

import { Anchor, Text } from '@mantine/core'
import {
  createRootRoute,
  createRoute,
  createRouter,
  Link,
  Outlet,
  type RouterHistory,
} from '@tanstack/react-router'
import { SignInPage } from './features/account/sign-in-page'
import { ServiceAccountsPage } from './features/service-accounts/service-accounts-page'
import { ActivityPage } from './features/sessions/activity-page'
import { SetupPage } from './features/setup/setup-page'
import { TeamspacePage } from './features/teamspaces/teamspace-page'
import { TeamspacesPage } from './features/teamspaces/teamspaces-page'
import { asProblem } from './hub/problem'
import { Shell } from './shell'
import { Doorstep } from './ui/doorstep'
import { Page } from './ui/page'
import { ProblemNotice } from './ui/problem-notice'

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound })

const inside = createRoute({ getParentRoute: () => root, id: 'inside', component: Shell })

const teamspaces = createRoute({
  getParentRoute: () => inside,
  path: '/',
  component: TeamspacesPage,
})

const teamspace = createRoute({
  getParentRoute: () => inside,
  path: '/teamspaces/$id',
  component: function Teamspace() {
    const { id } = teamspace.useParams()
    return <TeamspacePage key={id} id={id} />
  },
})

const activity = createRoute({
  getParentRoute: () => inside,
  path: '/activity',
  component: ActivityPage,
})

const serviceAccounts = createRoute({
  getParentRoute: () => inside,
  path: '/service-accounts',
  component: ServiceAccountsPage,
})

const signIn = createRoute({
  getParentRoute: () => root,
  path: '/sign-in',
  validateSearch: (search): { error?: string; return_to?: string } =>
    texts(search, ['error', 'return_to']),
  component: function SignIn() {
    const { error, return_to } = signIn.useSearch()
    return <SignInPage error={error} returnTo={return_to} />
  },
})

const setup = createRoute({
  getParentRoute: () => root,
  path: '/setup',
  validateSearch: (search): { token?: string } => texts(search, ['token']),
  component: function Setup() {
    const { token } = setup.useSearch()
    return <SetupPage token={token} />
  },
})

/** Keeps the named parameters, as text. */
function texts(search: Record<string, unknown>, names: string[]): Record<string, string> {
  const kept = names.flatMap((name) => {
    const value = search[name]
    return value === undefined ? [] : [[name, String(value)] as const]
  })
  return Object.fromEntries(kept)
}

export function newRouter(history?: RouterHistory) {
  return createRouter({
    routeTree: root.addChildren([
      inside.addChildren([teamspaces, teamspace, activity, serviceAccounts]),
      signIn,
      setup,
    ]),
    ...(history ? { history } : {}),
    defaultErrorComponent: ({ error }) => (
      <Doorstep>
        <ProblemNotice problem={asProblem(error)} retry={() => globalThis.location.reload()} />
      </Doorstep>
    ),
    scrollRestoration: true,
  })
}

function NotFound() {
  return (
    <Doorstep>
      <Page title="Nothing is here">
        <Text>
          This address leads nowhere.{' '}
          <Anchor component={Link} to="/">
            Go to the teamspaces
          </Anchor>
        </Text>
      </Page>
    </Doorstep>
  )
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof newRouter>
  }
}
