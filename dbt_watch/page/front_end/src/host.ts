/**
 * Airflow's UI, in which the page is shown as a frame.
 *
 * The frame's sandbox allows neither new windows nor to lead the whole window elsewhere. Both are of the same origin, though, so
 * an anchor in Airflow's own document may be followed.
 */

/** Return the document of the outermost window that is of this origin. */
export function hostDocument(): Document {
  try {
    return window.parent.document;
  } catch {
    return document;
  }
}

export const isFramed = (): boolean => window.parent !== window;

/** Follow an address in the window that shows Airflow. */
export function follow(href: string, download?: string): void {
  const host = hostDocument();
  const anchor = host.createElement("a");
  anchor.href = new URL(href, location.href).href;
  if (download !== undefined) anchor.download = download;
  host.body.append(anchor);
  anchor.click();
  anchor.remove();
}

/** Return an address that a link may have, absolute; null for one that is not of the web, such as `javascript:`. */
export function safeHref(href: string | null | undefined): string | null {
  if (!href) return null;
  try {
    const url = new URL(href, location.href);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

export type Theme = "light" | "dark";

function themeOfHost(): Theme | null {
  if (isFramed()) {
    try {
      const { classList, dataset } = window.parent.document.documentElement;
      if (classList.contains("dark") || dataset.theme === "dark") return "dark";
      if (classList.contains("light") || dataset.theme === "light") return "light";
    } catch {
      // Airflow is of another origin.
    }
  }
  try {
    // What Airflow remembers the choice by.
    const stored = localStorage.getItem("theme");
    if (stored === "dark" || stored === "light") return stored;
  } catch {
    // There may be no storage.
  }
  return null;
}

const system = window.matchMedia("(prefers-color-scheme: dark)");
export const currentTheme = (): Theme => themeOfHost() ?? (system.matches ? "dark" : "light");

/** Follow Airflow's choice of light or dark, else the system's. */
export function followTheme(): void {
  const apply = () => {
    const theme = currentTheme();
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    window.dispatchEvent(new Event("themechange"));
  };
  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  if (isFramed()) {
    try {
      new MutationObserver(apply).observe(window.parent.document.documentElement, {
        attributes: true,
        attributeFilter: ["class", "data-theme"],
      });
    } catch {
      // Airflow is of another origin.
    }
  }
}
