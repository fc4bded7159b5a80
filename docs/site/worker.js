// A browser starts no worker from a page that was opened from the disk. The search's worker then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      const script = document.createElement("script");
      script.textContent = "self.postMessage = (data) => parent.postMessage({ answer: data }, '*');";
      frame.srcdoc = `<!doctype html>${script.outerHTML}<script src="${new URL(url, location.href)}"></${"script"}>`;
      this.waiting = [];
      window.addEventListener("message", (event) => {
        if (event.source === frame.contentWindow && event.data && "answer" in event.data) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data.answer }));
        }
      });
      frame.addEventListener("load", () => {
        this.loaded = frame;
        this.waiting.forEach((data) => this.postMessage(data));
      });
      document.body.append(frame);
    }

    postMessage(data) {
      if (!this.loaded) this.waiting.push(data);
      else this.loaded.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
