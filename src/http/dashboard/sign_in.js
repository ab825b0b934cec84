// Where a key is asked for. It is kept in memory, or in the storage of this tab, and goes nowhere but to this server.

import { forgetKey, read, useKey } from "./api.js";
import { h, visible } from "./dom.js";

/** Shows the form; `done` is called when a key was accepted. */
export function signIn(main, wasRefused, done) {
  const wrong = h("p", { id: "key-wrong", class: "wrong", role: "alert" },
    wasRefused ? "That key is not valid, or not any more." : "");
  const key = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-wrong" });
  const keep = h("input", { id: "keep", type: "checkbox" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  async function submit(event) {
    event.preventDefault();
    wrong.textContent = "";
    const secret = key.value.trim();
    if (!/^[\x21-\x7e]+$/.test(secret)) {
      wrong.textContent = "A key is one word of visible ASCII characters.";
      return;
    }
    button.disabled = true;
    useKey(secret, keep.checked);
    try {
      await read("v1/summary");
      done();
    } catch (error) {
      if (error.status === 401 || error.status === 400) forgetKey();
      wrong.textContent = error.status === 401 ? "That key is not valid." : visible(error.message);
      button.disabled = false;
      key.focus();
    }
  }
  main.replaceChildren(h("form", { class: "card sign-in", onsubmit: submit, "aria-labelledby": "sign-in-title" },
    h("h1", { id: "sign-in-title" }, "Sign in"),
    h("p", {}, "This registry asks for an API key. One with the role ", h("code", {}, "read"), " is enough to look around."),
    h("label", { for: "key" }, "API key"), key, wrong,
    h("label", { class: "check" }, keep, "Keep it until this tab is closed (else: until the page is reloaded)"),
    button));
  key.focus();
}
