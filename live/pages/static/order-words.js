/** How the staff's pages call states of orders, parcels and returns. */

export const ORDER_WORDS = {
  confirmed: "confirmed",
  paid: "paid",
  partially_refunded: "partly refunded",
  refunded: "refunded",
  cancelled: "cancelled",
  rejected: "rejected",
};
export const FULFILMENT_WORDS = {
  unfulfilled: "not sent",
  partial: "partly sent",
  shipped: "sent",
  delivered: "delivered",
  returned: "came back",
};
export const SHIPMENT_WORDS = { shipped: "on its way", delivered: "delivered", returned_to_sender: "came back" };
export const RETURN_WORDS = { requested: "asked for", approved: "approved", refused: "refused", received: "received" };
export const REFUND_WORDS = { due: "on its way", done: "done", failed: "failed", called_off: "called off" };

const ID_CHARS = 8; // enough to tell orders apart, and to read out on the phone

export const shortId = (id) => id.slice(0, ID_CHARS);
