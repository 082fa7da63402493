// Puts the console together: theme, answers of the hub, addresses.

import { MantineProvider } from '@mantine/core'
import { Notifications } from '@mantine/notifications'
import { type QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { type RegisteredRouter, RouterProvider } from '@tanstack/react-router'
import { theme, variables } from './ui/theme'

interface AppProps {
  queries: QueryClient
  router: RegisteredRouter
  nonce?: string | undefined
  /** Without transitions, for tests. */
  still?: boolean
}

export function App({ queries, router, nonce, still = false }: AppProps) {
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={variables}
      defaultColorScheme="auto"
      env={still ? 'test' : 'default'}
      {...(nonce ? { getStyleNonce: () => nonce } : {})}
    >
      <QueryClientProvider client={queries}>
        <Notifications position="bottom-right" />
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  )
}
