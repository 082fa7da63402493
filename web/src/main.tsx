// Starts the console in the page.

import '@mantine/core/styles.css'
import '@mantine/notifications/styles.css'
import './ui/base.css'
import { setNonce } from 'get-nonce'
import { createRoot } from 'react-dom/client'
import { App } from './app'
import { newQueryClient } from './hub/queries'
import { newRouter } from './routes'

// The hub gives each page its own nonce; without it the content security policy refuses styles made at run time.
const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce
if (nonce) setNonce(nonce)

const root = document.getElementById('root')
if (root) {
  createRoot(root).render(<App queries={newQueryClient()} router={newRouter()} nonce={nonce} />)
}
