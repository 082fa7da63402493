// Everybody's sessions across the teamspaces I may see: those that live, and those that have ended lately.

import { Page } from '../../ui/page'
import { EndedSessions } from './ended-sessions'
import { LiveSessions } from './live-sessions'

export function ActivityPage() {
  return (
    <Page
      title="Activity"
      lead="Who reaches which services, and who has taken one over, now and lately."
    >
      <LiveSessions />
      <EndedSessions />
    </Page>
  )
}
