/* Who is signed in: token (this tab only), user, role; first-login password change. */
import { defineStore } from "pinia";
import { computed, ref } from "vue";
import { api } from "@/api/client";
import { ApiError, configureHttp } from "@/api/http";
import type { Me, Role } from "@/api/types";

const KEY = "mingjian.session";

interface Stored {
  token: string;
  user: Me;
  mustChange: boolean;
}

function restore(): Stored | null {
  try {
    const value = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Stored | null;
    return value && typeof value.token === "string" && value.user ? value : null;
  } catch {
    return null;
  }
}

/** Where each role starts; a role sees only its own pages. */
export const HOME: Record<Role, string> = { watcher: "/wall", administrator: "/devices", auditor: "/ledger" };

export const useAuth = defineStore("auth", () => {
  const stored = restore();
  const token = ref(stored?.token ?? null);
  const user = ref<Me | null>(stored?.user ?? null);
  const mustChange = ref(stored?.mustChange ?? false);
  /** Set when the server ended the session, so that the sign-in page can say so. */
  const expired = ref(false);
  const role = computed(() => user.value?.role ?? null);
  const home = computed(() => (role.value ? HOME[role.value] : "/login"));
  const leaving: (() => Promise<void>)[] = [];

  function persist(): void {
    if (!token.value || !user.value) return sessionStorage.removeItem(KEY);
    sessionStorage.setItem(KEY, JSON.stringify({ token: token.value, user: user.value, mustChange: mustChange.value }));
  }

  function forget(): void {
    token.value = null;
    user.value = null;
    mustChange.value = false;
    persist();
  }

  configureHttp(
    () => token.value,
    () => {
      if (!token.value) return;
      forget();
      expired.value = true;
    },
  );

  async function login(username: string, password: string): Promise<void> {
    const answer = await api.login(username, password);
    token.value = answer.token;
    user.value = answer.user;
    mustChange.value = answer.must_change_password;
    expired.value = false;
    persist();
  }

  async function changePassword(current: string, next: string): Promise<void> {
    await api.changePassword(current, next);
    mustChange.value = false;
    persist();
  }

  /** Registers work that must finish before the token is given up, e.g. giving streams back. */
  function beforeLogout(work: () => Promise<void>): () => void {
    leaving.push(work);
    return () => void leaving.splice(leaving.indexOf(work), 1);
  }

  async function logout(): Promise<void> {
    await Promise.all(leaving.map((work) => work()));
    try {
      await api.logout();
    } catch (error) {
      // The session ends here whether or not the server could be told; it expires there by itself.
      if (!(error instanceof ApiError)) throw error;
    }
    forget();
  }

  return { token, user, role, home, mustChange, expired, login, logout, changePassword, beforeLogout, forget };
});
