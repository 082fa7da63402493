// The look of the console: colours, type, and what stock components need to be readable by everyone.

import {
  type CSSVariablesResolver,
  createTheme,
  Modal,
  Notification,
  PasswordInput,
  Tooltip,
} from '@mantine/core'

export const theme = createTheme({
  primaryColor: 'tide',
  primaryShade: { light: 6, dark: 6 },
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif',
  fontFamilyMonospace:
    'ui-monospace, "SF Mono", "Cascadia Code", "Liberation Mono", Menlo, monospace',
  headings: { fontWeight: '650' },
  defaultRadius: 'md',
  cursorType: 'pointer',
  respectReducedMotion: true,
  colors: {
    tide: [
      '#e6f5f8',
      '#cce9ef',
      '#9ed4df',
      '#6bbccb',
      '#41a7b9',
      '#1d92a6',
      '#0d7b8f',
      '#0b6577',
      '#0a5160',
      '#083f4b',
    ],
    gray: [
      '#f6f8fa',
      '#eef1f5',
      '#e2e7ed',
      '#d2d9e2',
      '#b7c1cd',
      '#8793a3',
      '#566374',
      '#414d5d',
      '#2b3644',
      '#17202b',
    ],
    dark: [
      '#dbe1e9',
      '#bcc6d2',
      '#9aa7b7',
      '#6d7a8b',
      '#303b49',
      '#252f3b',
      '#1b232d',
      '#12181f',
      '#0d1218',
      '#090d12',
    ],
  },
  components: {
    Modal: Modal.extend({
      defaultProps: {
        closeButtonProps: { 'aria-label': 'Close' },
        // Stock dialogs have a <header>, which would be a second banner of the page.
        attributes: { header: { role: 'presentation' } },
      },
    }),
    Notification: Notification.extend({
      defaultProps: { closeButtonProps: { 'aria-label': 'Dismiss' } },
    }),
    PasswordInput: PasswordInput.extend({
      defaultProps: { visibilityToggleButtonProps: { 'aria-label': 'Show or hide' } },
    }),
    Tooltip: Tooltip.extend({
      defaultProps: { events: { hover: true, focus: true, touch: true }, withArrow: true },
    }),
  },
})

/** Stock dimmed text and placeholders fall below 4.5:1 on our backgrounds. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    '--mantine-color-dimmed': 'var(--mantine-color-gray-6)',
    '--mantine-color-placeholder': 'var(--mantine-color-gray-6)',
    '--mantine-color-text': 'var(--mantine-color-gray-9)',
    '--mantine-color-error': '#b3261e',
    '--mantine-color-anchor': 'var(--mantine-color-tide-7)',
  },
  dark: {
    '--mantine-color-dimmed': 'var(--mantine-color-dark-2)',
    '--mantine-color-placeholder': 'var(--mantine-color-dark-2)',
    '--mantine-color-text': 'var(--mantine-color-dark-0)',
    '--mantine-color-error': '#ff9d94',
    '--mantine-color-anchor': 'var(--mantine-color-tide-3)',
  },
})
